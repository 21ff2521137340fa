"""The page of a user's API tokens."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts.authentication import page_permission, request_actor
from apps.accounts.forms import TokenForm
from apps.accounts.policies import Permission
from apps.accounts.selectors import api_token_get, api_token_list, user_get
from apps.accounts.services import api_token_create, api_token_revoke
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError, NotAuthenticated, NotFound


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def tokens(request: HttpRequest) -> HttpResponse:
    """The user's tokens, and a form that creates one. Only the response to the form shows the token."""
    actor = request_actor(request)
    user = user_get(actor.id)
    if user is None:
        raise NotAuthenticated("Please sign in.")
    context: dict[str, Any] = {"section": "tokens"}
    if request.method == "POST":
        form = TokenForm(request.POST, permissions=actor.permissions)
        if form.is_valid():
            try:
                context["made"], context["secret"] = api_token_create(
                    user=user,
                    name=form.cleaned_data["name"],
                    permissions=form.permissions,
                    expires_at=form.expires_at,
                    actor=actor,
                )
                form = TokenForm(permissions=actor.permissions)
            except ApplicationError as error:
                form.refuse(error)
    else:
        form = TokenForm(permissions=actor.permissions)
    now = clock.now()
    context["form"] = form
    context["tokens"] = [
        {"token": token, "expired": token.expired(now), "expires_at": token.expires_at}
        for token in _with(api_token_list(actor.id), context.get("made"))
    ]
    return render(request, "accounts/tokens.html", context, status=422 if form.is_bound else 200)


@require_POST
@page_permission(Permission.TOKENS_MANAGE)
def token_revoke(request: HttpRequest, token_id: str) -> HttpResponse:
    """Revoke one of the user's tokens, if it is not revoked already, and go back to the page."""
    actor = request_actor(request)
    try:
        token = api_token_get(token_id)
    except NotFound:
        messages.info(request, "This token has been revoked already.")
    else:
        api_token_revoke(token=token, actor=actor)
        messages.success(request, f"“{token.name}” is revoked. Programs that use it are refused at once.")
    return redirect("account-tokens")


def _with(listed: list[Any], made: Any) -> list[Any]:
    """The list with the new token, which the index may not list yet."""
    return [made, *(token for token in listed if token.token_id != made.token_id)] if made else listed
