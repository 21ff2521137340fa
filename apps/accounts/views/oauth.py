"""Signing in with a provider: redirecting there, and coming back."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.authentication import next_page, request_actor, sign_in
from apps.accounts.identities import PROVIDERS, ProviderIdentity, providers_configured
from apps.accounts.services import (
    identity_link,
    provider_attempt_reserve,
    provider_sign_in_failed,
    provider_start_count,
)
from apps.accounts.views.oauth_purposes import LINK, purpose_keep, purpose_of, purpose_user
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.http.requests import client_address
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, TooManyRequests

# Under this key the session keeps the page to go to after signing in, while the browser is at the provider.
_NEXT_KEY = "_next"

_HEADINGS = {
    ErrorCode.OAUTH_DENIED: "You did not sign in",
    ErrorCode.OAUTH_STATE: "This sign-in cannot be finished",
    ErrorCode.OAUTH_CODE: "This sign-in cannot be finished",
    ErrorCode.PROVIDER_REFUSED: "This sign-in cannot be finished",
    ErrorCode.NOT_ALLOWED: "You are not allowed to sign in",
    ErrorCode.EMAIL_UNVERIFIED: "Your e-mail address is not verified",
    ErrorCode.EMAIL_TAKEN: "This address is taken",
    ErrorCode.ACCOUNT_DISABLED: "You are not allowed to sign in",
    ErrorCode.IDENTITY_TAKEN: "This account signs in another user",
    ErrorCode.INVITATION_EXPIRED: "This invitation cannot be accepted",
    ErrorCode.INVITATION_INVALID: "This invitation cannot be accepted",
    ErrorCode.TOO_MANY_IDENTITIES: "You have connected enough accounts",
    ErrorCode.TOO_MANY_REQUESTS: "Too many attempts",
}


@never_cache
@require_POST
def oauth_start(request: HttpRequest, provider: str) -> HttpResponse:
    """Send the browser to the provider. By POST only, so that no other site begins a sign-in in our name."""
    from apps.accounts.oauth.flow import sign_in_url

    _require(provider)
    try:
        provider_start_count(address=client_address(request))
        purpose_keep(request, provider)
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
    identity = None
    try:
        identity = sign_in_identity(request, provider)
        purpose = purpose_of(request, provider)
        if purpose == LINK:
            return _connect(request, provider, identity)
        going_to = request.session.get(_NEXT_KEY)
        sign_in(request, purpose_user(request, purpose, identity), provider=provider, identity=identity)
    except ApplicationError as error:
        return _failed(request, provider, _counted(request, provider, error, identity))
    return redirect(next_page(request, going_to))


def _connect(request: HttpRequest, provider: str, identity: ProviderIdentity) -> HttpResponse:
    """Let the account at the provider sign in the user who is signed in, and go back to the page that began this."""
    try:
        identity_link(actor=request_actor(request), identity=identity)
    except ApplicationError as error:
        # This is no attempt to sign in, so the failure is counted but not recorded as one.
        return _failed(request, provider, _counted(request, provider, error, None))
    messages.success(request, f"Your {PROVIDERS[provider]} account is connected. You can sign in with it.")
    return redirect("identities")


def _counted(
    request: HttpRequest, provider: str, error: ApplicationError, identity: ProviderIdentity | None
) -> ApplicationError:
    """Count the failure; returns the error to answer with. A valid state is never refused for what others do."""
    if error.status >= 500:
        return error
    address = client_address(request)
    try:
        provider_attempt_reserve(address=address)
        if identity is not None:
            provider_sign_in_failed(error=error, provider=provider, address=address, identity=identity)
    except TooManyRequests as refused:
        return refused
    return error


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
        "purpose": purpose_of(request, provider),
    }
    return sign_in_page(request, "accounts/signin_failed.html", context, error=error)
