"""People, roles, API tokens and sessions in the admin."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin import display
from django.contrib.auth.password_validation import password_validators_help_text_html
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from apps.accounts.models import API_TOKENS, ApiToken, Session, User, UserFacade
from apps.accounts.policies import ROLES, Permission
from apps.accounts.selectors import session_list, user_by_email, user_get
from apps.accounts.services import (
    api_token_create,
    api_token_revoke,
    session_revoke,
    sessions_end,
    user_create,
    user_disable,
    user_password_set,
    user_update,
)
from apps.accounts.services.users import MAX_EMAIL, MAX_NAME, MAX_PASSWORD
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.filters import FieldFilter, YesNoFilter
from controlplane.nosql.admin.forms import RecordForm, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade, FacadePage, RecordManager, RecordQuerySet
from controlplane.nosql.listing import Listing, search_key

# No id is like this.
_NOBODY = "-"

_ROLE_CHOICES = [(role, role) for role in ROLES]


def _password(label: str) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})
    return forms.CharField(label=label, strip=False, max_length=MAX_PASSWORD, widget=widget)


class _TwicePasswordForm(RecordForm):
    """A password is typed twice, since nobody sees what they type."""

    password = _password("Password")
    password_again = _password("Password (again)")

    def clean_password_again(self) -> str:
        again = str(self.cleaned_data["password_again"])
        if self.cleaned_data.get("password") not in (None, again):
            raise forms.ValidationError("The two passwords differ.")
        return again


class UserAddForm(_TwicePasswordForm):
    """A new person."""

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
    """What can be changed in a person."""

    revision_field = "revision"

    name = text(max_length=MAX_NAME)
    role = forms.ChoiceField(choices=_ROLE_CHOICES)
    is_active = forms.BooleanField(
        label="Active",
        required=False,
        help_text="Whoever is disabled is out at once; their API tokens stop within half a minute.",
    )
    revision = revision()

    def write(self, actor: Actor) -> User:
        return user_update(user_id=self.instance.pk, **self.cleaned_data, actor=actor)


class PasswordForm(_TwicePasswordForm):
    """A new password for somebody."""

    revision_field = "revision"

    revision = revision()

    def shown(self, name: str, facade: Any) -> Any:
        return None if name == "password" else super().shown(name, facade)

    def write(self, actor: Actor) -> User:
        return user_password_set(
            user_id=self.instance.pk,
            password=self.cleaned_data["password"],
            revision=self.cleaned_data["revision"],
            actor=actor,
        )


class UserAdmin(NosqlModelAdmin):
    permissions = dict.fromkeys(("view", "add", "change"), Permission.ACCOUNTS_MANAGE)
    history_kind = "user"
    list_display = ("email", "name", "role", "is_active", moment("last_login_at"))
    list_filter = (
        FieldFilter.make("role", "role", _ROLE_CHOICES),
        YesNoFilter.make("is_active", "active", YesNoFilter.values),
    )
    search_fields = ("email", "name")
    search_help_text = "The beginning of a name, or of an e-mail address if it has an @."
    form = UserForm
    add_form = UserAddForm
    details = ("email", moment("created_at"), moment("last_login_at"), "kept_elsewhere")
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
        confirm="They are out at once and cannot sign in; their API tokens stop within half a minute.",
        done="Disabled",
    )
    def disable(self, actor: Actor, obj: Any) -> None:
        if obj.pk == actor.id:
            raise Conflict("Nobody can disable themselves.", code="own_account")
        user_disable(user_id=obj.pk, actor=actor)

    @display(description="elsewhere")
    def kept_elsewhere(self, obj: Any) -> str:
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
        """Setting somebody's password: the change page with another form."""
        page = _PasswordAdmin(self.model, self.admin_site)
        response: HttpResponse = page.changeform_view(request, object_id, request.path)
        return response


class _PasswordAdmin(NosqlModelAdmin):
    """Registered nowhere: a page of `UserAdmin`."""

    permissions = UserAdmin.permissions
    form = PasswordForm
    details = ("email",)
    change_form_template = "admin/user_password.html"

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context |= {
            "title": "Set password",
            "rules": password_validators_help_text_html(),
            "show_save_and_continue": False,
        }
        return super().render_change_form(request, context, *args, **kwargs)


class Role(models.Model):
    """Roles are part of the program (`apps.accounts.policies`): nothing is stored, and a page shows them."""

    class Meta:
        managed = False
        app_label = "accounts"

    def __str__(self) -> str:
        return "role"


class RoleAdmin(NosqlModelAdmin):
    """Which role allows what; to be read only."""

    permissions = {"view": Permission.ACCOUNTS_MANAGE}  # noqa: RUF012

    def check(self, **_: Any) -> list[Any]:
        """The checks are about lists of records, and this is none."""
        return []

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="accounts_role_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Roles",
            "opts": self.opts,
            "roles": list(ROLES),
            "rows": [
                (permission.value, [permission in allowed for allowed in ROLES.values()]) for permission in Permission
            ],
        }
        return TemplateResponse(request, "admin/roles.html", context)


def _all_tokens(asked: Mapping[str, Any]) -> list[str] | None:
    return None if "user_id" in asked else [API_TOKENS]


def _tokens_of(asked: Mapping[str, Any]) -> list[str] | None:
    return [asked["user_id"]] if "user_id" in asked else None


def _id_of(email: str) -> str:
    """The person with this address, or the id of nobody."""
    found = user_by_email(email) if len(email) <= MAX_EMAIL else None
    return found.user_id if found else _NOBODY


class ApiTokenFacade(Facade, record=ApiToken):
    """A token as the admin sees it."""

    listings = (
        Listing(ApiToken, ApiToken.by_user, _tokens_of, descending=True),
        Listing(ApiToken, ApiToken.by_name, _all_tokens),
    )

    class Meta(Facade.Meta):
        verbose_name = "API token"

    def __str__(self) -> str:
        return str(self.record.name)


class _OwnerFilter(FieldFilter):
    """Whose: from a link on a person's page, or by searching for their address; there are too many to choose from."""

    title = "person"
    parameter_name = "user_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        user_id = request.GET.get("user_id", "")
        user = user_get(user_id) if 1 <= len(user_id.encode("utf-8", "replace")) <= 100 else None
        return [(user.user_id, user.email)] if user else []


class ApiTokenAddForm(RecordForm):
    """A new token, for oneself or for a person of a program."""

    email = forms.CharField(
        label="Owner",
        max_length=MAX_EMAIL,
        widget=forms.EmailInput(attrs={"class": "vTextField"}),
        help_text="The e-mail address of the person in whose place the token acts.",
    )
    name = text(max_length=100, help_text="What the token is for.")
    permissions = forms.MultipleChoiceField(
        choices=[(permission.value, permission.value) for permission in Permission],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: whatever the owner's role allows.",
    )
    days = forms.IntegerField(
        label="Valid for (days)",
        required=False,
        min_value=1,
        max_value=3650,
        initial=90,
        help_text="Empty: until it is revoked.",
    )

    def write(self, actor: Actor) -> ApiToken:
        owner = user_by_email(self.cleaned_data["email"])
        if owner is None:
            raise InvalidInput.field("email", "nobody has this e-mail address.")
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
    list_display = ("name", "owner", "allowed", moment("created_at"), moment("expires_at"), moment("last_used_at"))
    list_filter = (_OwnerFilter,)
    search_fields = ("name",)
    search_help_text = "The beginning of a name, or the whole e-mail address of the owner."
    add_form = ApiTokenAddForm
    details = ("name", "owner", "allowed", moment("created_at"), moment("expires_at"), moment("last_used_at"))
    delete_note = "Whatever program uses it is refused within half a minute."

    def search(self, queryset: Any, term: str) -> Any:
        if "@" in term:
            return queryset.filter(user_id=_id_of(term))
        return queryset.filter(name_key__startswith=search_key(term))

    @act(
        "Revoke",
        permission=Permission.ACCOUNTS_MANAGE,
        confirm="Whatever program uses them is refused within half a minute.",
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
        return owner.email if owner else "nobody"

    @display(description="may")
    def allowed(self, obj: Any) -> str:
        return "all of the role" if obj.permissions is None else ", ".join(obj.permissions)


class _SessionQuerySet(RecordQuerySet[Any]):
    """A person's sessions, from the selector: wherever they are kept, what they hold is never read."""

    def _run(self, limit: int | None = None) -> Any:
        whose = next((item.value for item in self._lookups if item.field == "user_id"), "")
        views: list[Any] = list(session_list(whose)) if whose else []
        found = [view for view in views if all(item.fulfilled_by(view) for item in self._lookups)]
        return (self.model.from_record(view) for view in found[:limit])

    def page(self, *, limit: int, cursor: str | None = None) -> FacadePage[Any]:  # noqa: ARG002 — there is one page
        return FacadePage(list(self._run()))


class _SessionManager(RecordManager):
    def get_queryset(self) -> _SessionQuerySet:  # type: ignore[override]
        return _SessionQuerySet(self.model)


class SessionFacade(Facade, record=Session, hidden=("data", "revision", "subject")):
    """A session as the admin sees it. Its key is a hash that opens nothing."""

    objects = _SessionManager()
    listings = (Listing(Session, Session.by_user, _tokens_of, descending=True),)

    class Meta(Facade.Meta):
        verbose_name = "session"

    def __str__(self) -> str:
        return f"{self.record.device or 'unknown device'}, {self.record.address or 'unknown address'}"


class SessionAdmin(NosqlModelAdmin):
    """Somebody's sessions: one's own unless another person is asked for. They can be revoked, and nothing else."""

    permissions = {"view": Permission.ACCOUNTS_MANAGE}  # noqa: RUF012
    list_display = (
        "device",
        "address",
        "region",
        "provider",
        moment("created_at"),
        moment("last_seen_at"),
        moment("expires_at"),
    )
    list_display_links = None
    list_filter = (_OwnerFilter,)
    search_fields = ("user_id",)
    search_help_text = "Whose: the whole e-mail address."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(user_id=_id_of(term))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="accounts_session_changelist")]

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if not search_term.strip() and "user_id" not in request.GET:
            return queryset.filter(user_id=self.admin_site.actor_of(request).id), False
        return super().get_search_results(request, queryset, search_term)

    def list_note(self, request: HttpRequest) -> str:
        own = not request.GET.get("q", "").strip() and "user_id" not in request.GET
        return "These are your own. Search for an e-mail address to see somebody else's." if own else ""

    @act("Revoke", permission=Permission.ACCOUNTS_MANAGE, done="Revoked")
    def revoke(self, actor: Actor, obj: Any) -> None:
        session_revoke(actor=actor, session_id=obj.pk)


site.register(UserFacade, UserAdmin)
site.register(Role, RoleAdmin)
site.register(ApiTokenFacade, ApiTokenAdmin)
site.register(SessionFacade, SessionAdmin)
