"""Google and GitHub: their URLs, and what their responses mean.

The URLs come from the settings, for GitHub Enterprise and for tests. Both flows use PKCE. The access token serves to
read the person's profile, and is not stored.
"""

import re
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote

from django.conf import settings
from django.http import HttpResponse
from social_core.backends.github import GithubOAuth2
from social_core.backends.google import GoogleOAuth2
from social_core.backends.oauth import BaseOAuth2PKCE
from social_core.exceptions import (
    AuthCanceled,
    AuthCredentialError,
    AuthPolicyError,
    AuthProviderError,
    AuthResponseError,
    AuthUnknownError,
    ErrorStage,
)

from apps.accounts.identities import ProviderIdentity, email_normalise

# The statuses by which providers say that a token is not valid.
_REFUSED = frozenset({400, 401, 403, 404, 422})


_PICTURE = re.compile(r"https://[A-Za-z0-9][!#$%&()*+,./0-9:;=?@A-Z_a-z~-]{0,1000}")


class ScopeMissing(AuthPolicyError):
    """The access token does not allow what we have to read; `detail` is the missing scope."""


class Provider(BaseOAuth2PKCE[HttpResponse]):
    """What both providers have in common."""

    # Several requests fit into the 29 s after which the gateway gives up.
    TIMEOUT_SECONDS = 5

    def get_key_and_secret(self) -> tuple[str, str]:
        prefix = self.name.upper()
        return getattr(settings, f"{prefix}_CLIENT_ID"), getattr(settings, f"{prefix}_CLIENT_SECRET")

    def auth_params(self, state: str | None = None) -> dict[str, str]:
        params: dict[str, str] = super().auth_params(state)  # type: ignore[no-untyped-call]
        if self.data.get("choose"):
            # Otherwise both send the browser back at once with the account that is signed in there.
            params["prompt"] = "select_account"
        return params

    def identity(self, answer: dict[str, Any]) -> ProviderIdentity:
        """The identity, from what `user_data` returned."""
        raise NotImplementedError

    def token_check(self, access_token: str) -> None:
        """Raises AuthCredentialError unless the provider issued this token to us: a token of another application must
        not sign its user in here."""
        raise NotImplementedError

    def process_error(self, data: Any, *, stage: ErrorStage = "callback") -> None:
        """Raise what the provider reports in `data`: in its own response, or (stage "callback") in a query.

        Anyone can write a query, so its error counts only with a valid state, and never as a fault of ours.
        """
        if stage != "callback":
            super().process_error(data, stage=stage)
            return
        error = self.get_provider_error(data, stage=stage)
        if error is None and "denied" not in data:
            return
        self.validate_state()
        if error is None or isinstance(error, AuthCanceled):
            raise AuthCanceled(self, stage=stage)
        raise AuthUnknownError(self, provider_code=error.provider_code, stage=stage)

    def auth_complete_params(self, state: str | None = None) -> dict[str, str]:
        """Raises AuthCredentialError without a code: providers would call such a request of ours invalid."""
        params: dict[str, str] = super().auth_complete_params(state)  # type: ignore[no-untyped-call]
        if not params["code"]:
            raise AuthCredentialError(self, code="authorization_code_rejected", stage="callback")
        return params

    def ask(self, url: str, access_token: str, **params: str) -> Any:
        """The provider's response to a request with the token. Raises AuthCredentialError if it has expired."""
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
        try:
            return self.get_json(url, headers=headers, params=params or None, timeout=self.TIMEOUT_SECONDS)
        except AuthProviderError as error:
            if error.status_code == HTTPStatus.UNAUTHORIZED:
                raise AuthCredentialError(self, stage="user_info") from error
            raise

    def token_info(self, url: str, **request: Any) -> dict[str, Any]:
        """What the provider says about a token. Raises AuthCredentialError if it does not know it."""
        try:
            found = self.get_json(url, timeout=self.TIMEOUT_SECONDS, stage="token_validation", **request)
        except AuthProviderError as error:
            if error.status_code in _REFUSED:
                raise AuthCredentialError(self, stage="token_validation") from error
            raise
        return _object(self, found)

    def subject(self, answer: dict[str, Any]) -> str:
        """The provider's own id for the person. Raises AuthResponseError if there is none."""
        subject = answer.get(self.ID_KEY)
        if isinstance(subject, bool) or not isinstance(subject, str | int) or not str(subject):
            raise AuthResponseError(self, code="missing_claim", claim=self.ID_KEY, stage="user_info")
        return str(subject)


class Google(Provider, GoogleOAuth2[HttpResponse]):
    """OpenID Connect's userinfo over plain OAuth 2."""

    name = "google"

    def authorization_url(self) -> str:
        return f"{settings.GOOGLE_ACCOUNTS_URL}/o/oauth2/v2/auth"

    def access_token_url(self) -> str:
        return f"{settings.GOOGLE_TOKEN_URL}/token"

    def user_data(self, access_token: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return _object(self, self.ask(f"{settings.GOOGLE_USERINFO_URL}/v1/userinfo", access_token))

    def identity(self, answer: dict[str, Any]) -> ProviderIdentity:
        verified = answer.get("email_verified") is True
        return ProviderIdentity(
            provider=self.name,
            subject=self.subject(answer),
            email=_address(answer.get("email")) if verified else None,
            name=str(answer.get("name") or ""),
            hosted_domain=str(answer.get("hd") or "").lower() or None,
            picture=_picture(answer.get("picture")),
        )

    def token_check(self, access_token: str) -> None:
        info = self.token_info(f"{settings.GOOGLE_TOKEN_URL}/tokeninfo", params={"access_token": access_token})
        if info.get("aud") != settings.GOOGLE_CLIENT_ID:
            raise AuthCredentialError(self, stage="token_validation")


class GitHub(Provider, GithubOAuth2[HttpResponse]):
    """GitHub's own API. Organisations are asked for only where the settings name some."""

    name = "github"

    def get_scope(self) -> list[str]:
        return ["user:email", "read:org"] if settings.ALLOWED_GITHUB_ORGS else ["user:email"]

    def authorization_url(self) -> str:
        return f"{settings.GITHUB_URL}/login/oauth/authorize"

    def access_token_url(self) -> str:
        return f"{settings.GITHUB_URL}/login/oauth/access_token"

    def user_data(self, access_token: str, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        api = settings.GITHUB_API_URL
        answer = _object(self, self.ask(f"{api}/user", access_token))
        answer["emails"] = self._ask_with_scope("user:email", f"{api}/user/emails", access_token)
        if settings.ALLOWED_GITHUB_ORGS:
            answer["organisations"] = self._ask_with_scope("read:org", f"{api}/user/orgs", access_token)
        return answer

    def _ask_with_scope(self, scope: str, url: str, access_token: str) -> Any:
        """GitHub's list at this address. Raises ScopeMissing if the token lacks the scope: GitHub answers 403 or 404.

        GitHub's rate limit answers 403, too, and then says when to come back, or that no requests are left.
        """
        try:
            return self.ask(url, access_token, per_page="100")
        except AuthProviderError as error:
            response = getattr(error.__cause__, "response", None)
            limited = error.retry_after or (
                response is not None and response.headers.get("X-RateLimit-Remaining") == "0"
            )
            if error.status_code in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND) and not limited:
                raise ScopeMissing(self, scope, stage="user_info") from error
            raise

    def identity(self, answer: dict[str, Any]) -> ProviderIdentity:
        addresses = [
            entry.get("email")
            for entry in _objects(self, answer.get("emails"))
            if entry.get("primary") is True and entry.get("verified") is True
        ]
        organisations = _objects(self, answer.get("organisations"))
        return ProviderIdentity(
            provider=self.name,
            subject=self.subject(answer),
            email=_address(addresses[0]) if addresses else None,
            name=str(answer.get("name") or answer.get("login") or ""),
            organisations=frozenset(
                str(entry[member]).lower() for entry in organisations for member in ("login", "id") if member in entry
            ),
            picture=_picture(answer.get("avatar_url")),
        )

    def token_check(self, access_token: str) -> None:
        client_id, client_secret = self.get_key_and_secret()
        method: Literal["POST"] = "POST"
        info = self.token_info(
            f"{settings.GITHUB_API_URL}/applications/{quote(client_id, safe='')}/token",
            method=method,
            auth=(client_id, client_secret),
            json={"access_token": access_token},
        )
        if _object(self, info.get("app")).get("client_id") != client_id:
            raise AuthCredentialError(self, stage="token_validation")


def _object(provider: Provider, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AuthResponseError(provider, code="malformed_response", stage="user_info")
    return value


def _objects(provider: Provider, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list | None):
        raise AuthResponseError(provider, code="malformed_response", stage="user_info")
    return [_object(provider, entry) for entry in value or ()]


def _address(value: Any) -> str | None:
    return email_normalise(value) if isinstance(value, str) and "@" in value else None


def _picture(value: Any) -> str | None:
    """The address if it is an https one of usual length and characters: pages of frontends show it."""
    return value if isinstance(value, str) and _PICTURE.fullmatch(value) else None
