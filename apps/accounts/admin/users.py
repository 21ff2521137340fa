"""Users in the admin."""

from typing import Any

from django import forms
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from apps.accounts.admin.passwords import PasswordAdmin
from apps.accounts.identities import PROVIDERS
from apps.accounts.models import User, UserFacade
from apps.accounts.policies import ROLES, Permission
from apps.accounts.selectors import identities_of_user
from apps.accounts.services import sessions_end, user_delete, user_disable, user_update
from apps.accounts.services.identities import password_counts
from apps.accounts.services.users import MAX_NAME
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter, YesNoFilter
from controlplane.nosql.admin.forms import RecordForm, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.listing import search_key

_ROLE_CHOICES = [(role, role) for role in ROLES]


class UserForm(RecordForm):
    """What can be changed in a user."""

    revision_field = "revision"

    name = text(max_length=MAX_NAME)
    role = forms.ChoiceField(choices=_ROLE_CHOICES)
    is_active = forms.BooleanField(
        label="Active",
        required=False,
        help_text="Disabling a user ends their sessions and API tokens at once.",
    )
    revision = revision()

    def write(self, actor: Actor) -> User:
        return user_update(user_id=self.instance.pk, **self.cleaned_data, actor=actor)


class UserAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "change", "delete"), Permission.ACCOUNTS_MANAGE)
    history_kind = "user"
    list_display = ("email", "name", "role", "is_active", moment("last_login_at"))
    list_filter = (
        FieldFilter.make("role", "role", _ROLE_CHOICES),
        YesNoFilter.make("is_active", "active", YesNoFilter.values),
    )
    search_fields = ("email", "name")
    search_help_text = "The beginning of a name, or of an e-mail address if it contains an @."
    form = UserForm
    details = ("email", moment("created_at"), moment("last_login_at"), "signs_in_with", "related")
    delete_note = (
        "Their sessions and API tokens end at once. The audit trail keeps their name. You can invite the address again."
    )
    change_form_template = "admin/user_change.html"

    def search(self, queryset: Any, term: str) -> Any:
        if "@" in term:
            return queryset.filter(email__startswith=term.lower())
        return queryset.filter(name_key__startswith=search_key(term))

    @act(
        "Sign out everywhere",
        permission=Permission.ACCOUNTS_MANAGE,
        confirm="All their sessions end at once. They can sign in again.",
        done="Signed out everywhere",
    )
    def end_sessions(self, actor: Actor, obj: Any) -> None:
        sessions_end(actor=actor, user_id=obj.pk)

    @act(
        "Disable",
        permission=Permission.ACCOUNTS_MANAGE,
        confirm="Their sessions and API tokens end at once, and they cannot sign in.",
        done="Disabled",
    )
    def disable(self, actor: Actor, obj: Any) -> None:
        user_disable(user_id=obj.pk, actor=actor)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        """Invite: how somebody signs in is not the admin's to choose."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:accounts_invitation_add"))

    def record_delete(self, actor: Actor, obj: Any) -> None:
        user_delete(user_id=obj.pk, actor=actor)

    @display(description="signs in with")
    def signs_in_with(self, obj: Any) -> str:
        """The providers and the password. An older user's provider is known from the next sign-in on."""
        found = identities_of_user(obj.record)
        ways = [PROVIDERS[row.provider] + (f" ({row.email})" if row.email else "") for row in found]
        return ", ".join([*ways, "password"] if password_counts(obj.record) else ways) or "-"

    @display(description="related")
    def related(self, obj: Any) -> str:
        return format_html(
            '<a href="{}?user_id={}">Sessions</a> · <a href="{}?user_id={}">API tokens</a>',
            reverse("admin:accounts_session_changelist"),
            obj.pk,
            reverse("admin:accounts_apitoken_changelist"),
            obj.pk,
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.password_view)
        return [path("<path:object_id>/password/", view, name="accounts_user_password"), *super().get_urls()]

    def password_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page that sets a user's password: the change page with another form."""
        page = PasswordAdmin(self.model, self.admin_site)
        response: HttpResponse = page.changeform_view(request, object_id, request.path)
        return response


site.register(UserFacade, UserAdmin)
