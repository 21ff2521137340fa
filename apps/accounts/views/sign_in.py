"""Coming in with a password, and leaving."""

from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts.authentication import request_actor, sign_in
from apps.accounts.forms import SignInForm
from apps.accounts.services import sign_in_failed_record, sign_out

_PROVIDER = "password"


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def signin(request: HttpRequest) -> HttpResponse:
    """Sign in with e-mail address and password; goes on to `next` if that is a page of ours."""
    next_page = _next_page(request)
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(next_page)
        return render(request, "accounts/signin.html", {"form": SignInForm(), "next": next_page})
    form = SignInForm(request.POST)
    if form.is_valid():
        email = form.cleaned_data["email"]
        address = request.META.get("REMOTE_ADDR", "")
        user = authenticate(request, username=email, password=form.cleaned_data["password"])
        if user is not None:
            sign_in(request, user, provider=_PROVIDER)
            return redirect(next_page)
        sign_in_failed_record(email=email, provider=_PROVIDER, address=address)
        form.add_error(None, "The e-mail address or the password is not right.")
    return render(request, "accounts/signin.html", {"form": form, "next": next_page}, status=401)


@require_POST
def signout(request: HttpRequest) -> HttpResponse:
    """Sign out. By POST only, so that no link or picture on another site can do it."""
    if request.user.is_authenticated and request.session.session_key:
        sign_out(actor=request_actor(request), session_key=request.session.session_key)
    logout(request)
    return redirect(settings.LOGIN_URL)


def _next_page(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else settings.LOGIN_REDIRECT_URL
