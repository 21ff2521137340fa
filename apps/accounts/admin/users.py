"""Users in the admin."""

from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from apps.accounts.admin.passwords import PasswordAdmin, TwicePasswordForm
from apps.accounts.models import User, UserFacade
from apps.accounts.policies import ROLES, Permission
from apps.accounts.services import sessions_end, user_create, user_disable, user_update
from apps.accounts.services.users import MAX_EMAIL, MAX_NAME
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.filters import FieldFilter, YesNoFilter
from controlplane.nosql.admin.forms import RecordForm, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.listing import search_key

_ROLE_CHOICES = [(role, role) for role in ROLES]


class UserAddForm(TwicePasswordForm):
    """A new user."""

    email = forms.CharField(
        label="E-mail address", max_length=MAX_EMAIL, widget=forms.EmailInput(attrs={"class": "vTextField"})
    )
    name = text(max_length=MAX_NAME)
    role = forms.ChoiceField(choices=_ROLE_CHOICES, initial="viewer")

    field_order = ("email", "name", "role", "password", "password_again")

    def write(self, actor: Actor) -> User:
        members = {name: self.cleaned_data[name] for name in ("email", "name", "role", "password")}
        try:
            return user_create(**members, actor=actor)
        except Conflict as error:
            raise InvalidInput.field("email", error.message) from error


class UserForm(RecordForm):
    """What can be changed in a user."""

    revision_field = "revision"

    name = text(max_length=MAX_NAME)
    role = forms.ChoiceField(choices=_ROLE_CHOICES)
    is_active = forms.BooleanField(
        label="Active",
        required=False,
        help_text="Disabling a user ends their sessions at once and their API tokens within half a minute.",
    )
    revision = revision()

    def write(self, actor: Actor) -> User:
        return user_update(user_id=self.instance.pk, **self.cleaned_data, actor=actor)


class UserAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "change"), Permission.ACCOUNTS_MANAGE)
    history_kind = "user"
    list_display = ("email", "name", "role", "is_active", moment("last_login_at"))
    list_filter = (
        FieldFilter.make("role", "role", _ROLE_CHOICES),
        YesNoFilter.make("is_active", "active", YesNoFilter.values),
    )
    search_fields = ("email", "name")
    search_help_text = "The beginning of a name, or of an e-mail address if it contains an @."
    form = UserForm
    add_form = UserAddForm
    details = ("email", moment("created_at"), moment("last_login_at"), "related")
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
        confirm="Their sessions end at once and they cannot sign in; their API tokens stop within half a minute.",
        done="Disabled",
    )
    def disable(self, actor: Actor, obj: Any) -> None:
        if obj.pk == actor.id:
            raise Conflict("You cannot disable yourself. Ask another administrator.", code=ErrorCode.OWN_ACCOUNT)
        user_disable(user_id=obj.pk, actor=actor)

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
