"""Signing in with a provider: redirecting there, and coming back."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.authentication import next_page, sign_in
from apps.accounts.identities import providers_configured
from apps.accounts.services import identity_sign_in, sign_in_failed_record, sign_in_rate_limit
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.http.requests import client_address
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError

# Under this key the session keeps the page to go to after signing in, while the browser is at the provider.
_NEXT_KEY = "_next"

_HEADINGS = {
    ErrorCode.OAUTH_DENIED: "You did not sign in",
    ErrorCode.OAUTH_STATE: "This sign-in cannot be finished",
    ErrorCode.OAUTH_CODE: "This sign-in cannot be finished",
    ErrorCode.NOT_ALLOWED: "You are not allowed to sign in",
    ErrorCode.EMAIL_UNVERIFIED: "Your e-mail address is not verified",
    ErrorCode.EMAIL_TAKEN: "This address is taken",
    ErrorCode.ACCOUNT_DISABLED: "You are not allowed to sign in",
    ErrorCode.TOO_MANY_REQUESTS: "Too many attempts",
}


@never_cache
@require_POST
def oauth_start(request: HttpRequest, provider: str) -> HttpResponse:
    """Send the browser to the provider. By POST only, so that no other site begins a sign-in in our name."""
    from apps.accounts.oauth.flow import sign_in_url

    _require(provider)
    try:
        sign_in_rate_limit(address=client_address(request))
        request.session[_NEXT_KEY] = next_page(request)
        return redirect(sign_in_url(request, provider))
    except ApplicationError as error:
        return _failed(request, provider, error)


@never_cache
@require_safe
def oauth_complete(request: HttpRequest, provider: str) -> HttpResponse:
    """The browser comes back from the provider: sign the user in, or show why not."""
    from apps.accounts.oauth.flow import sign_in_identity

    _require(provider)
    try:
        sign_in_rate_limit(address=client_address(request))
        identity = sign_in_identity(request, provider)
    except ApplicationError as error:
        return _failed(request, provider, error)
    going_to = request.session.get(_NEXT_KEY)
    try:
        sign_in(request, identity_sign_in(identity), provider=provider)
    except ApplicationError as error:
        # The provider has named the person, so the audit trail can.
        sign_in_failed_record(
            email=identity.email or "", provider=provider, address=client_address(request), reason=error.code
        )
        return _failed(request, provider, error)
    return redirect(next_page(request, going_to))


def _require(provider: str) -> None:
    if provider not in providers_configured():
        raise Http404


def _failed(request: HttpRequest, provider: str, error: ApplicationError) -> HttpResponse:
    context = {
        "heading": _HEADINGS.get(error.code, "Signing in did not work"),
        "message": error.message,
        "code": error.code,
        "provider": provider,
        "title": providers_configured()[provider],
    }
    return sign_in_page(request, "accounts/signin_failed.html", context, error=error)
