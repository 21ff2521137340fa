"""Invitations in the admin: the form that adds a user, and the list of open ones."""

from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.accounts.models import INVITATIONS, Invitation
from apps.accounts.policies import ROLES, Permission
from apps.accounts.services import invitation_create, invitation_revoke
from apps.accounts.services.users import MAX_EMAIL
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.forms import RecordForm
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing


class InvitationFacade(Facade, record=Invitation, hidden=("token_hash",)):
    """An invitation as the admin sees it. Its key is made of the address, and opens nothing."""

    listings = (Listing(Invitation, Invitation.by_age, lambda _asked: [INVITATIONS], descending=True),)

    class Meta(Facade.Meta):
        verbose_name = "invitation"

    def __str__(self) -> str:
        return str(self.record.email)


class InvitationForm(RecordForm):
    """An address and the role that its user gets. How they sign in is their choice."""

    email = forms.CharField(
        label="E-mail address", max_length=MAX_EMAIL, widget=forms.EmailInput(attrs={"class": "vTextField"})
    )
    role = forms.ChoiceField(choices=[(role, role) for role in ROLES], initial="viewer")

    def write(self, actor: Actor) -> Invitation:
        try:
            invitation, self.secret = invitation_create(**self.cleaned_data, actor=actor)
        except Conflict as error:
            if error.code != ErrorCode.EMAIL_TAKEN:
                raise
            raise InvalidInput.field("email", error.message) from error
        return invitation


class InvitationAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "delete"), Permission.ACCOUNTS_MANAGE)
    history_kind = "invitation"
    list_display = ("email", "role", "inviter", moment("created_at"), moment("expires_at"), "state")
    search_fields = ("created_at",)
    search_help_text = "The time at which it was made, or the beginning of that: 2026-11-21."
    add_form = InvitationForm
    details = ("email", "role", "inviter", moment("created_at"), moment("expires_at"), "state")
    delete_note = "Its link works no more. You can invite the address again."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(created_at__startswith=term.replace(" ", "T"))

    def list_note(self, request: HttpRequest) -> str:  # noqa: ARG002 — the base's
        return "Invitations that are not accepted yet. Once one is, the user is in the list of users."

    @display(description="invited by")
    def inviter(self, obj: Any) -> str:
        return str(obj.inviter_name)

    @display(description="state")
    def state(self, obj: Any) -> str:
        return "expired" if obj.expires_at <= clock.now() else "open"

    @act(
        "Revoke",
        permission=Permission.ACCOUNTS_MANAGE,
        confirm="Their links work no more. You can invite the addresses again.",
        done="Revoked",
    )
    def revoke(self, actor: Actor, obj: Any) -> None:
        invitation_revoke(invitation=obj.record, actor=actor)

    def record_delete(self, actor: Actor, obj: Any) -> None:
        invitation_revoke(invitation=obj.record, actor=actor)

    def history_target(self, obj: Any) -> str:
        return f"invitation:{obj.record.invitation_id}"

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> Any:  # noqa: ARG002
        """Show the link, which no later page shows. Browsers do not send the part after ``#``, so no log has it."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Invitation of {obj}",
            "opts": self.opts,
            "object": obj,
            "link": f"{request.build_absolute_uri(reverse('invitation'))}#{obj.secret}",
            "list_url": self._list_url(),
        }
        return TemplateResponse(request, "admin/invitation_link.html", context, headers={"Cache-Control": "no-store"})


site.register(InvitationFacade, InvitationAdmin)
