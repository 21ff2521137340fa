"""The page that lists the devices on which a user is signed in, and signs them out there."""

from dataclasses import asdict

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.authentication import page_signed_in, request_actor
from apps.accounts.identities import PROVIDERS
from apps.accounts.selectors import session_list, session_view
from apps.accounts.services import device_remove, sessions_end
from controlplane.lib.errors import NotFound

PAGE_SIZE = 25


@never_cache
@require_safe
@page_signed_in
def devices(request: HttpRequest) -> HttpResponse:
    """A page of my devices; this one is first on the first page."""
    current = request.session.token_hash  # type: ignore[attr-defined]
    cursor = request.GET.get("cursor") or None
    page = session_list(request_actor(request).id, limit=PAGE_SIZE, cursor=cursor)
    this_one = None if cursor else session_view(current)
    others = [session for session in page.sessions if session.token_hash != current]
    sessions = [this_one, *others] if this_one else others
    return render(
        request,
        "accounts/devices.html",
        {
            "section": "devices",
            "sessions": [{**asdict(each), "provider_title": PROVIDERS.get(each.provider or "")} for each in sessions],
            "current": current,
            "page": page,
            "cursor": cursor,
        },
    )


@require_POST
@page_signed_in
def device_end(request: HttpRequest, device_id: str) -> HttpResponse:
    """Sign out on one device."""
    try:
        device_remove(actor=request_actor(request), device_id=device_id)
    except NotFound:
        messages.info(request, "You were signed out there already.")
    else:
        messages.success(request, "You are signed out there.")
    return redirect("devices")


@require_POST
@page_signed_in
def devices_end(request: HttpRequest) -> HttpResponse:
    """Sign out on every device, this one too."""
    actor = request_actor(request)
    sessions_end(actor=actor, user_id=actor.id)
    logout(request)
    return redirect("signin")
