"""Passwords in the admin: the field that is typed twice, and the page that sets a user's password."""

from typing import Any

from django import forms
from django.contrib.auth.password_validation import password_validators_help_text_html
from django.http import HttpRequest

from apps.accounts.models import User
from apps.accounts.policies import Permission
from apps.accounts.services import user_password_set
from apps.accounts.services.users import MAX_PASSWORD
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.forms import RecordForm, revision
from controlplane.nosql.admin.options import NosqlModelAdmin


def _password(label: str) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})
    return forms.CharField(label=label, strip=False, max_length=MAX_PASSWORD, widget=widget)


class PasswordForm(RecordForm):
    """A new password for a user, typed twice since the page does not show it."""

    revision_field = "revision"

    password = _password("Password")
    password_again = _password("Password (again)")
    revision = revision()

    def clean_password_again(self) -> str:
        again = str(self.cleaned_data["password_again"])
        if self.cleaned_data.get("password") not in (None, again):
            raise forms.ValidationError("The two passwords differ.")
        return again

    def shown(self, name: str, facade: Any) -> Any:
        return None if name == "password" else super().shown(name, facade)

    def write(self, actor: Actor) -> User:
        return user_password_set(
            user_id=self.instance.pk,
            password=self.cleaned_data["password"],
            revision=self.cleaned_data["revision"],
            actor=actor,
        )


class PasswordAdmin(NosqlModelAdmin):
    """Not registered with the site: a page of `UserAdmin`."""

    permissions = dict.fromkeys(("view", "change"), Permission.ACCOUNTS_MANAGE)
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
