"""The page that lists how a user signs in, connects an account at a provider, and disconnects one."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.authentication import page_signed_in, request_actor
from apps.accounts.identities import PROVIDERS, providers_configured
from apps.accounts.selectors import identities_of_user, user_get
from apps.accounts.services import identity_unlink
from apps.accounts.services.identities import password_counts
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.lib.errors import Conflict, NotAuthenticated, NotFound


@never_cache
@require_safe
@page_signed_in
def identities(request: HttpRequest) -> HttpResponse:
    """My ways to sign in."""
    user = user_get(request_actor(request).id)
    if user is None:
        raise NotAuthenticated("Please sign in.")
    configured = providers_configured()
    rows = [
        {
            "key": row.identity,
            "title": PROVIDERS.get(row.provider, row.provider),
            "email": row.email,
            "created_at": row.created_at,
            "is_usable": row.provider in configured,
        }
        for row in identities_of_user(user)
    ]
    context = {
        "rows": rows,
        "email": user.email,
        "with_password": password_counts(user),
        "providers": configured,
        "section": "identities",
    }
    return sign_in_page(request, "accounts/identities.html", context)


@require_POST
@page_signed_in
def identity_disconnect(request: HttpRequest) -> HttpResponse:
    """Disconnect one account, unless it is the last way to sign in."""
    try:
        identity_unlink(actor=request_actor(request), key=request.POST.get("identity", ""))
    except (Conflict, NotFound) as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "This account is disconnected. It does not sign you in any more.")
    return redirect("identities")
