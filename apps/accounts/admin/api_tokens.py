"""API tokens in the admin."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin import display

from apps.accounts.admin.owners import OwnerFilter, owner_asked, owner_id
from apps.accounts.models import API_TOKENS, ApiToken
from apps.accounts.policies import Permission
from apps.accounts.selectors import user_by_email, user_get
from apps.accounts.services import api_token_create, api_token_revoke
from apps.accounts.services.users import MAX_EMAIL
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.nosql.admin.forms import RecordForm, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing, search_key


def _all_tokens(asked: Mapping[str, Any]) -> list[str] | None:
    return None if "user_id" in asked else [API_TOKENS]


class ApiTokenFacade(Facade, record=ApiToken):
    """A token as the admin sees it."""

    listings = (
        Listing(ApiToken, ApiToken.by_user, owner_asked, descending=True),
        Listing(ApiToken, ApiToken.by_name, _all_tokens),
    )

    class Meta(Facade.Meta):
        verbose_name = "API token"

    def __str__(self) -> str:
        return str(self.record.name)


class ApiTokenAddForm(RecordForm):
    """A new token, for oneself or for another user."""

    email = forms.CharField(
        label="Owner",
        max_length=MAX_EMAIL,
        widget=forms.EmailInput(attrs={"class": "vTextField"}),
        help_text="The e-mail address of the user for whom the token acts.",
    )
    name = text(max_length=100, help_text="What the token is for.")
    permissions = forms.MultipleChoiceField(
        choices=[(permission.value, permission.value) for permission in Permission],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="If none is ticked, the token may do whatever the owner's role allows.",
    )
    days = forms.IntegerField(
        label="Valid for (days)",
        required=False,
        min_value=1,
        max_value=3650,
        initial=90,
        help_text="If empty, the token is valid until it is revoked.",
    )

    def write(self, actor: Actor) -> ApiToken:
        owner = user_by_email(self.cleaned_data["email"])
        if owner is None:
            raise InvalidInput.field("email", "must be the e-mail address of a user")
        days = self.cleaned_data["days"]
        token, self.secret = api_token_create(
            user=owner,
            name=self.cleaned_data["name"],
            permissions=self.cleaned_data["permissions"] or None,
            expires_at=clock.now() + timedelta(days=days) if days else None,
            actor=actor,
        )
        return token


class ApiTokenAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "delete"), Permission.ACCOUNTS_MANAGE)
    list_display = (
        "name",
        "owner",
        "allowed",
        moment("created_at"),
        moment("expires_at"),
        moment("last_used_at", exact_to="hour"),
    )
    list_filter = (OwnerFilter,)
    search_fields = ("name",)
    search_help_text = "The beginning of a name, or the whole e-mail address of the owner."
    add_form = ApiTokenAddForm
    details = list_display
    delete_note = "Programs that use it are refused at once."

    def search(self, queryset: Any, term: str) -> Any:
        if "@" in term:
            return queryset.filter(user_id=owner_id(term))
        return queryset.filter(name_key__startswith=search_key(term))

    @act(
        "Revoke",
        permission=Permission.ACCOUNTS_MANAGE,
        confirm="Programs that use them are refused at once.",
        done="Revoked",
    )
    def revoke(self, actor: Actor, obj: Any) -> None:
        api_token_revoke(token=obj.record, actor=actor)

    def record_delete(self, actor: Actor, obj: Any) -> None:
        api_token_revoke(token=obj.record, actor=actor)

    def history_target(self, obj: Any) -> str:
        return f"api_token:{obj.record.token_id}"

    @display(description="owner")
    def owner(self, obj: Any) -> str:
        owner = user_get(obj.user_id)
        return owner.email if owner else "no such user"

    @display(description="may")
    def allowed(self, obj: Any) -> str:
        return "all of the role" if obj.permissions is None else ", ".join(obj.permissions)


site.register(ApiTokenFacade, ApiTokenAdmin)
