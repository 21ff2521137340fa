"""The pages on which an invited person becomes a user.

The link carries the token after ``#``, so that no log of a server or gateway has it, and no Referer. The browser sends
it once, in a form; from then on the session refers to the invitation by the hash.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from apps.accounts.authentication import sign_in
from apps.accounts.forms import InvitationCodeForm, InvitationPasswordForm
from apps.accounts.identities import providers_configured
from apps.accounts.selectors import invitation_by_token, invitation_get
from apps.accounts.services import invitation_accept_password, invitation_failure_count
from apps.accounts.views.sign_in_page import sign_in_page
from controlplane.http.requests import client_address
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput, NotFound

# Under this key the session keeps the key of an invitation and the hash of its token, which the person has shown.
_KEY = "_invitation"


@sensitive_post_parameters("code")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest) -> HttpResponse:
    """Take the code of an invitation, and go on to the page that shows it."""
    form = InvitationCodeForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return sign_in_page(request, "accounts/invitation.html", {"form": form}, status=422 if form.is_bound else 200)
    try:
        found = _found(request, form.cleaned_data["code"].strip())
    except ApplicationError as error:
        # A new form: the page does not repeat a code.
        context = {"form": InvitationCodeForm(), "message": error.message}
        return sign_in_page(request, "accounts/invitation.html", context, error=error)
    request.session[_KEY] = [found.address_key, found.token_hash]
    return redirect("invitation-accept")


def _found(request: HttpRequest, token: str) -> Any:
    try:
        return invitation_by_token(token)
    except NotFound:
        invitation_failure_count(address=client_address(request))
        raise


@sensitive_post_parameters("password", "password_again")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest) -> HttpResponse:
    """Show who invites to what, and offer the ways to sign in. The form of this page is the one for a password."""
    try:
        found = invitation_of_session(request)
        form = InvitationPasswordForm(request.POST if request.method == "POST" else None)
        if form.is_bound and _accept_password(request, found, form):
            return redirect(settings.LOGIN_REDIRECT_URL)
    except ApplicationError as error:
        return sign_in_page(request, "accounts/invitation_refused.html", {"message": error.message}, error=error)
    context = {
        "invitation": found,
        "form": form,
        "providers": providers_configured(),
        "with_password": settings.PASSWORD_SIGN_IN,
    }
    return sign_in_page(request, "accounts/invitation_accept.html", context, status=422 if form.is_bound else 200)


def invitation_of_session(request: HttpRequest) -> Any:
    """The open invitation whose code this browser has sent.

    Raises NotFound if there is none or it is not valid any more, and Conflict for a user who is signed in: it would
    make another user.
    """
    if request.user.is_authenticated:
        email = request.user.email  # type: ignore[attr-defined]
        raise Conflict(
            f"You are signed in as {email}. If the invitation is for another person or address, sign out "
            "and open its link again."
        )
    kept = request.session.get(_KEY)
    if kept is None:
        raise NotFound("This browser has shown no invitation. Open the link again.", code=ErrorCode.INVITATION_INVALID)
    return invitation_get(kept[0], token_hash=kept[1])


def _accept_password(request: HttpRequest, found: Any, form: InvitationPasswordForm) -> bool:
    """Whether the form has made the user and signed them in; if not, it has errors."""
    if not settings.PASSWORD_SIGN_IN:
        raise Forbidden(
            "Signing in with a password is switched off. Sign in with a provider.", code=ErrorCode.PASSWORD_SIGN_IN_OFF
        )
    if not form.is_valid():
        return False
    try:
        user = invitation_accept_password(
            invitation=found, name=form.cleaned_data["name"], password=form.cleaned_data["password"]
        )
    except InvalidInput as error:
        for fault in error.errors:
            form.add_error(str(fault["field"]), str(fault["message"]))
        return False
    sign_in(request, user, provider="password")
    return True
