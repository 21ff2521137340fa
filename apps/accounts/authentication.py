"""Who sends a request: a program by an API token, or a user by a session."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import rotate_token
from django.shortcuts import render, resolve_url
from django.utils.functional import SimpleLazyObject
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect
from rest_framework import authentication
from rest_framework.request import Request

from apps.accounts.devices import device_name
from apps.accounts.identities import ProviderIdentity
from apps.accounts.models import User, UserFacade, session_token_shaped
from apps.accounts.policies import Permission, permission_require, role_permissions
from apps.accounts.services import (
    api_call_rate_limit,
    api_token_verify,
    known_browser_verify,
    password_attempt_reserve,
    session_start,
    session_verify,
    user_password_rehash,
)
from apps.accounts.session_store import SessionStore
from controlplane.http.requests import client_address, client_region
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden, NotAuthenticated
from controlplane.lib.work import actor_note

# The cookie of a browser that has signed in with a password before, for the sign-in page only.
KNOWN_BROWSER_COOKIE = "known_browser"


class BearerAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer …`` with an API token or a session_id. An invalid one is refused: no other way is tried.

    DRF's ``request.auth`` is the hash of the session's token; None for an API token.
    """

    def authenticate(self, request: Request) -> tuple[Actor, str | None] | None:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = credentials.strip()
        if session_token_shaped(token):
            session = session_verify(token, use=True)
            actor_note(session.actor)
            api_call_rate_limit(caller=session.token_hash)
            return session.actor, session.token_hash
        actor = api_token_verify(token)
        actor_note(actor)
        api_call_rate_limit(caller=actor.id)
        return actor, None

    def authenticate_header(self, _request: Request) -> str:
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The session of a browser. The browser sends its cookie by itself, so requests that write need a CSRF token."""

    def authenticate(self, request: Request) -> tuple[Actor, str | None] | None:
        found = super().authenticate(request)
        return (user_actor(found[0]), request.session.token_hash) if found else None  # type: ignore[attr-defined]


class PasswordBackend(ModelBackend):
    """Django's sign-in by e-mail address and password (setting AUTHENTICATION_BACKENDS), with roles for permissions.

    Like Django's, it hashes a password for an unknown address too, so that the duration does not show which addresses
    have accounts. It applies the rate limits and the setting PASSWORD_SIGN_IN for every page that asks for a password.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> Any:
        """The user (`UserFacade`), or None. Raises TooManyRequests."""
        if not settings.PASSWORD_SIGN_IN or username is None or password is None:
            return None
        cookie = request.COOKIES.get(KNOWN_BROWSER_COOKIE, "") if request else ""
        attempt = password_attempt_reserve(
            address=client_address(request) if request else "",
            email=username,
            known_browser=known_browser_verify(value=cookie, email=username),
        )
        found: Any = super().authenticate(request, username=username, password=password)
        if found is not None:
            attempt.give_back()
            user_password_rehash(user=found.record, password=password)
        return found

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None:
            return set()
        return {str(permission) for permission in role_permissions(user_obj.role)}

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm in self.get_all_permissions(user_obj, obj)


def sign_in(request: HttpRequest, user: User, *, provider: str, identity: ProviderIdentity | None = None) -> None:
    """Give the browser a new session of this user. Raises NotAuthenticated ``account_disabled``.

    The browser's old session is deleted: its data is not this user's, and others may know its key.
    """
    started = session_start(
        user=user,
        provider=provider,
        device=device_name(request.headers.get("User-Agent", "")),
        address=client_address(request),
        region=client_region(request),
        identity=identity,
    )
    request.session.flush()
    request.session = SessionStore.of_started(started)
    request.user = UserFacade.from_record(user)
    rotate_token(request)


def session_renew(request: HttpRequest, user: User) -> None:
    """Let the browser's session go on, whose user has just got another password, and no other session of theirs."""
    facade: Any = UserFacade.from_record(user)
    update_session_auth_hash(request, facade)
    request.user = facade


def next_page(request: HttpRequest, wanted: str | None = None) -> str:
    """The page to go to after signing in: `wanted` or the request's `next` if that is on this site; else the first."""
    wanted = wanted or request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else resolve_url(settings.LOGIN_REDIRECT_URL)


def request_actor(request: HttpRequest | Request) -> Actor:
    """The actor that sends the request: of its token or session for the API, the signed-in user for a page.

    Raises NotAuthenticated.
    """
    user: Any = request.user
    if isinstance(user, Actor):
        return user
    if not user.is_authenticated:
        raise NotAuthenticated("Please sign in.")
    return user_actor(user)


def permissions_context(request: HttpRequest) -> dict[str, Any]:
    """For all templates: the permissions of the user of the page, by which the navigation differs. Read when used."""

    def permissions() -> frozenset[str]:
        return request_actor(request).permissions if request.user.is_authenticated else frozenset()

    return {"permissions": SimpleLazyObject(permissions)}


def session_actor(request: Request) -> tuple[Actor, str]:
    """The user of the request's session, and the hash of its token. Raises Forbidden for an API token."""
    actor = request_actor(request)
    if not isinstance(request.auth, str):
        raise Forbidden(
            "This needs a session. An API token cannot list or end sessions.", code=ErrorCode.SESSION_NEEDED
        )
    return actor, request.auth


def user_actor(user: Any) -> Actor:
    """The actor that one of Django's users (`UserFacade`) is, with what their role allows now."""
    return Actor("user", user.user_id, user.name, frozenset(role_permissions(user.role)))


def page_signed_in(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For pages of every signed-in user. Anyone else is redirected to the sign-in page, and from there back."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs) if request.user.is_authenticated else _to_sign_in(request)

    return guarded


def page_permission(permission: Permission) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """For pages that need a permission: without it the response is 403, and without signing in as `page_signed_in`."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_sign_in(request)
            try:
                permission_require(request_actor(request), permission)
            except Forbidden as error:
                return render(request, "accounts/forbidden.html", {"message": error.message}, status=403)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Redirect the whole page: the sign-in page must not replace the part of a page that htmx asked for."""
    htmx = request.htmx  # type: ignore[attr-defined]
    if htmx:
        try:
            page = htmx.current_url_abs_path or resolve_url(settings.LOGIN_REDIRECT_URL)
        except ValueError:
            # The header names no address.
            page = resolve_url(settings.LOGIN_REDIRECT_URL)
        return HttpResponseClientRedirect(redirect_to_login(page).url)
    return redirect_to_login(request.get_full_path())
