"""Signing in at a provider, for pages and for the frontend, with the failures as ApplicationErrors."""

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
    AuthUnknownError,
    SocialAuthBaseException,
)
from social_django.strategy import DjangoStrategy

from apps.accounts.identities import PROVIDERS, ProviderIdentity
from apps.accounts.oauth.providers import GitHub, Google, Provider, ScopeMissing
from apps.accounts.oauth.storage import OAuthStorage
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Forbidden, InvalidInput, NotAuthenticated, Unavailable

logger = logging.getLogger(__name__)

# RFC 6749 section 4.1.2.1, and GitHub's own.
_CALLBACK_ERRORS = frozenset(
    {
        "application_suspended",
        "invalid_request",
        "invalid_scope",
        "redirect_uri_mismatch",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
    }
)
_BACKENDS: dict[str, type[Provider]] = {"google": Google, "github": GitHub}


class ProviderUnavailable(Unavailable):
    """The provider does not respond as it should; the user may try again."""

    code = ErrorCode.PROVIDER_UNAVAILABLE


class _Strategy(DjangoStrategy):
    """Django's, but it returns what the provider says instead of calling ``django.contrib.auth.authenticate``."""

    def authenticate(self, backend: Any, **arguments: Any) -> Any:
        return backend.identity(arguments["response"])


def sign_in_url(request: HttpRequest, provider: str) -> str:
    """The URL at which the browser signs in. Its state is stored in the session too, and is valid once.

    Raises ApplicationError as `sign_in_identity` does.
    """
    with _our_errors(provider):
        return str(_backend(request, provider).auth_url())


def sign_in_identity(request: HttpRequest, provider: str) -> ProviderIdentity:
    """The identity of the person whom the provider has sent back with this request.

    Raises Forbidden ``oauth_denied`` or ``provider_scope_missing``, InvalidInput ``oauth_state`` or ``oauth_code``,
    ProviderUnavailable, and for what only an administrator can correct ``provider_refused``: InvalidInput if the
    browser says so, an ApplicationError of status 502 if the provider itself does.
    """
    with _our_errors(provider):
        identity: ProviderIdentity = _backend(request, provider).auth_complete()  # type: ignore[assignment]
        return identity


def token_identity(request: HttpRequest, provider: str, access_token: str) -> ProviderIdentity:
    """The identity of the person for whom the provider issued this token to this application.

    Raises NotAuthenticated ``provider_token_invalid``, and what `sign_in_identity` raises for the provider's failures.
    """
    with _our_errors(provider):
        backend = _backend(request, provider)
        try:
            backend.token_check(access_token)
            return backend.identity(backend.user_data(access_token) or {})
        except AuthCredentialError as error:
            raise NotAuthenticated(
                f"{PROVIDERS[provider]} does not know this access token, or issued it to another application.",
                code=ErrorCode.PROVIDER_TOKEN_INVALID,
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
            return Forbidden(f"At {title} you did not agree to sign in here.", code=ErrorCode.OAUTH_DENIED)
        case AuthSessionError() | AuthInputError():
            return InvalidInput(
                "This sign-in was started in another browser, has expired, or is finished. Please sign in again.",
                code=ErrorCode.OAUTH_STATE,
            )
        case AuthCredentialError():
            return _code_refused(error, title)
        case AuthUnknownError():
            # What the browser brings from the provider, or makes up.
            logger.warning("%s sent a person back with the error %s", title, _known_error(error.provider_code))
            return InvalidInput(
                f"{title} reported an error instead of signing you in. Please sign in again. If that does not help, "
                f"ask an administrator to check the settings of this application at {title}.",
                code=ErrorCode.PROVIDER_REFUSED,
            )
        case ScopeMissing():
            return Forbidden(
                f"The access token of {title} lacks the scope {error.detail}. Ask {title} for a token with this scope.",
                code=ErrorCode.PROVIDER_SCOPE_MISSING,
            )
        case AuthConfigurationError() | AuthProviderError():
            return _provider_failure(error, title)
        case _:
            logger.warning("%s sent a response that we do not understand: %s %s", title, error.code, error.claim)
            return ApplicationError(
                f"{title} sent a response that we do not understand. Please try again.",
                code=ErrorCode.PROVIDER_ANSWER,
                status=502,
            )


def _code_refused(error: SocialAuthBaseException, title: str) -> InvalidInput:
    logger.info("%s refuses a code: %s %s", title, error.code, error.provider_code)
    return InvalidInput(
        f"{title} does not accept its own code any more. Please sign in again.", code=ErrorCode.OAUTH_CODE
    )


def _provider_failure(error: AuthConfigurationError | AuthProviderError, title: str) -> ApplicationError:
    """The provider refuses our request or does not respond."""
    ours = isinstance(error, AuthConfigurationError) or error.provider_code == "incorrect_client_credentials"
    refused = error.stage == "token_exchange" and error.code == "http_error"
    if error.provider_code == "invalid_request" or (refused and not ours):
        # Anyone can bring a code that makes our own request malformed.
        return _code_refused(error, title)
    if not ours:
        logger.warning("%s is not available: %s %s", title, error.code, error.status_code)
        return ProviderUnavailable(f"{title} does not respond. Please try again.")
    logger.error("%s refuses our credentials or our request: %s %s", title, error.code, error.provider_code)
    return ApplicationError(
        f"{title} does not accept this control plane. Ask an administrator to check its settings.",
        code=ErrorCode.PROVIDER_REFUSED,
        status=502,
    )


def _known_error(code: Any) -> str:
    """The error, if OAuth 2 or a provider defines it: anyone can write another text into the query."""
    return str(code) if code in _CALLBACK_ERRORS else "(unknown)"
