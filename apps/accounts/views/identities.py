"""The page that lists how a user signs in; it connects and disconnects accounts, and changes the password."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.authentication import page_signed_in, request_actor, session_renew
from apps.accounts.forms import PasswordChangeForm
from apps.accounts.identities import PROVIDERS, providers_configured
from apps.accounts.selectors import identities_of_user, user_get
from apps.accounts.services import identity_unlink, user_password_change
from apps.accounts.services.identities import password_counts
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.lib.errors import (
    ApplicationError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    TooManyRequests,
)


@never_cache
@require_safe
@page_signed_in
def identities(request: HttpRequest) -> HttpResponse:
    """My ways to sign in."""
    return _page(request, PasswordChangeForm())


@sensitive_post_parameters("old_password", "password", "password_again")
@never_cache
@require_POST
@page_signed_in
def password_change(request: HttpRequest) -> HttpResponse:
    """Change my password. All my other sessions end."""
    form = PasswordChangeForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        user = user_password_change(
            actor=request_actor(request),
            old_password=form.cleaned_data["old_password"],
            password=form.cleaned_data["password"],
        )
    except InvalidInput as error:
        for fault in error.errors:
            form.add_error(str(fault["field"]), str(fault["message"]))
        return _page(request, form, status=422)
    except (Conflict, Forbidden, TooManyRequests) as error:
        form.add_error(None, error.message)
        return _page(request, form, error=error)
    session_renew(request, user)
    messages.success(request, "Your password is changed. You are signed out everywhere else.")
    return redirect("identities")


def _page(
    request: HttpRequest, form: PasswordChangeForm, *, status: int = 200, error: ApplicationError | None = None
) -> HttpResponse:
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
        "password_sign_in": settings.PASSWORD_SIGN_IN,
        "form": form,
        "providers": configured,
        "section": "identities",
    }
    return sign_in_page(request, "accounts/identities.html", context, status=status, error=error)


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
