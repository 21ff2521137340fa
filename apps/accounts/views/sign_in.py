"""Signing in with a password, and signing out."""

from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts.authentication import KNOWN_BROWSER_COOKIE, next_page, request_actor, sign_in
from apps.accounts.forms import SignInForm
from apps.accounts.identities import providers_configured
from apps.accounts.services import known_browser_sign, sign_in_failed_record, sign_out
from apps.accounts.services.known_browsers import KNOWN_BROWSER_LIFETIME
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.http.requests import client_address
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden, TooManyRequests

_PROVIDER = "password"


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def signin(request: HttpRequest) -> HttpResponse:
    """Sign in with a provider or a password, then go to `next` if that is on this site."""
    going_to = next_page(request)
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(going_to)
        return _page(request, SignInForm())
    if not settings.PASSWORD_SIGN_IN:
        raise Forbidden(
            "Signing in with a password is switched off. Sign in with a provider.", code=ErrorCode.PASSWORD_SIGN_IN_OFF
        )
    form = SignInForm(request.POST)
    if form.is_valid():
        email = form.cleaned_data["email"]
        try:
            user = authenticate(request, username=email, password=form.cleaned_data["password"])
        except TooManyRequests as error:
            form.add_error(None, error.message)
            return _page(request, form, error=error)
        if user is not None:
            # The facade of the user: it has its record.
            sign_in(request, user.record, provider=_PROVIDER)  # type: ignore[attr-defined]
            return _known(redirect(going_to), email)
        sign_in_failed_record(email=email, provider=_PROVIDER, address=client_address(request))
        form.add_error(None, "The e-mail address or the password is not right.")
    return _page(request, form, status=401)


def _known(answer: HttpResponse, email: str) -> HttpResponse:
    """The answer, with the cookie by which the rate limits recognise this browser."""
    answer.set_cookie(
        KNOWN_BROWSER_COOKIE,
        known_browser_sign(email=email),
        max_age=KNOWN_BROWSER_LIFETIME,
        path=reverse("signin"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return answer


def _page(
    request: HttpRequest, form: SignInForm, *, status: int = 200, error: ApplicationError | None = None
) -> HttpResponse:
    context = {
        "form": form,
        "next": next_page(request),
        "providers": providers_configured(),
        "with_password": settings.PASSWORD_SIGN_IN,
    }
    return sign_in_page(request, "accounts/signin.html", context, status=status, error=error)


@require_POST
def signout(request: HttpRequest) -> HttpResponse:
    """Sign out. By POST only, so that no link or picture on another site can do it."""
    if request.user.is_authenticated and request.session.session_key:
        sign_out(actor=request_actor(request), token=request.session.session_key)
    logout(request)
    return redirect(settings.LOGIN_URL)
