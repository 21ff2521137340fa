"""The way to a provider and back, and the frontend's shorter one, with our names for what can go wrong on it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from social_core.exceptions import (
    AuthCanceled,
    AuthConfigurationError,
    AuthCredentialError,
    AuthInputError,
    AuthProviderError,
    AuthSessionError,
    SocialAuthBaseException,
)
from social_django.strategy import DjangoStrategy

from apps.accounts.identities import PROVIDERS, ProviderIdentity
from apps.accounts.oauth.providers import GitHub, Google, Provider
from apps.accounts.oauth.storage import OAuthStorage
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput, NotAuthenticated, Unavailable

logger = logging.getLogger(__name__)

_BACKENDS: dict[str, type[Provider]] = {"google": Google, "github": GitHub}


class ProviderUnavailable(Unavailable):
    """The provider does not answer as it should; the way may be begun again."""

    code = "provider_unavailable"


class _Strategy(DjangoStrategy):
    """Django's, without the detour by ``django.contrib.auth.authenticate``: it gives what the provider says."""

    def authenticate(self, backend: Any, **arguments: Any) -> Any:
        return backend.identity(arguments["response"])


def sign_in_url(request: HttpRequest, provider: str) -> str:
    """Where the browser goes to sign in. The state that it takes along is noted in its session and good for one return.

    Raises ApplicationError as `sign_in_identity` does.
    """
    with _our_errors(provider):
        return str(_backend(request, provider).auth_url())


def sign_in_identity(request: HttpRequest, provider: str) -> ProviderIdentity:
    """Who came back from the provider with this request.

    Raises Forbidden ``oauth_denied``, InvalidInput ``oauth_state`` or ``oauth_code``, ProviderUnavailable, or an
    ApplicationError ``provider_refused`` for what only whoever runs the control plane can mend.
    """
    with _our_errors(provider):
        identity: ProviderIdentity = _backend(request, provider).auth_complete()  # type: ignore[assignment]
        return identity


def token_identity(request: HttpRequest, provider: str, access_token: str) -> ProviderIdentity:
    """Who the person is to whom the provider gave this token, for us.

    Raises NotAuthenticated ``provider_token_invalid``, and what `sign_in_identity` raises of the provider's failures.
    """
    with _our_errors(provider):
        backend = _backend(request, provider)
        try:
            backend.token_check(access_token)
            return backend.identity(backend.user_data(access_token) or {})
        except AuthCredentialError as error:
            raise NotAuthenticated(
                f"{PROVIDERS[provider]} does not know this access token, or gave it to another application.",
                code="provider_token_invalid",
            ) from error


def _backend(request: HttpRequest, provider: str) -> Provider:
    strategy = _Strategy(OAuthStorage, request)
    return _BACKENDS[provider](strategy, redirect_uri=reverse("oauth-complete", args=[provider]))


@contextmanager
def _our_errors(provider: str) -> Iterator[None]:
    try:
        yield
    except SocialAuthBaseException as error:
        raise _our_error(error, PROVIDERS[provider]) from error


def _our_error(error: SocialAuthBaseException, title: str) -> ApplicationError:
    match error:
        case AuthCanceled():
            return Forbidden(f"At {title} you did not agree to sign in here.", code="oauth_denied")
        case AuthSessionError() | AuthInputError():
            return InvalidInput(
                "This sign-in was begun in another browser, too long ago, or is finished already.", code="oauth_state"
            )
        case AuthCredentialError():
            return InvalidInput(f"{title} does not take the code that it gave.", code="oauth_code")
        case AuthConfigurationError():
            logger.error("%s refuses our credentials or our request: %s %s", title, error.code, error.provider_code)
            return ApplicationError(
                f"{title} does not accept this control plane. Whoever runs it has to look at its settings.",
                code="provider_refused",
                status=502,
            )
        case AuthProviderError():
            logger.warning("%s is not available: %s %s", title, error.code, error.status_code)
            return ProviderUnavailable(f"{title} does not answer just now. Please try again.")
        case _:
            logger.warning("%s gave an answer that is not understood: %s %s", title, error.code, error.claim)
            return ApplicationError(
                f"{title} gave an answer that is not understood.", code="provider_answer", status=502
            )
