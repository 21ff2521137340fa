"""Forms of the pages."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django import forms

from apps.accounts.policies import Permission
from apps.accounts.services.api_tokens import MAX_NAME
from apps.accounts.services.users import MAX_EMAIL, MAX_PASSWORD
from apps.accounts.services.users import MAX_NAME as MAX_USER_NAME
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError


class SignInForm(forms.Form):
    """E-mail address and password. The address is only looked up, so only its length is checked."""

    email = forms.CharField(
        label="E-mail address",
        max_length=MAX_EMAIL,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        max_length=MAX_PASSWORD, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )


class TokenForm(forms.Form):
    """A new API token, with the permissions that its creator has."""

    ALL, CHOSEN = "all", "chosen"

    name = forms.CharField(
        max_length=MAX_NAME,
        help_text="What the token is for, so that you recognise it later.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    days = forms.ChoiceField(
        label="Valid for",
        choices=[("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "ever")],
        initial="90",
        required=False,
    )
    scope = forms.ChoiceField(
        label="May do",
        choices=[(CHOSEN, "Only what is chosen here"), (ALL, "Whatever my role allows, now and later")],
        initial=CHOSEN,
        widget=forms.RadioSelect,
    )
    chosen = forms.MultipleChoiceField(label="Permissions", required=False, widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, permissions: Collection[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [permission.value for permission in Permission if permission in permissions]
        self.fields["chosen"].choices = [(value, value) for value in offered]  # type: ignore[attr-defined]

    @property
    def permissions(self) -> list[str] | None:
        """The token's permissions; None for all that the role allows."""
        return None if self.cleaned_data["scope"] == self.ALL else self.cleaned_data["chosen"]

    @property
    def expires_at(self) -> datetime | None:
        """When the token expires, or None."""
        days = self.cleaned_data["days"]
        return clock.now() + timedelta(days=int(days)) if days else None

    def clean(self) -> None:
        """Refuse a token without permissions: it would be of no use."""
        if self.cleaned_data.get("scope") == self.CHOSEN and not self.cleaned_data.get("chosen"):
            self.add_error("chosen", "Choose at least one permission.")

    def refuse(self, error: ApplicationError) -> None:
        """Show a service's refusal next to the field that it names. Raises it again if the user cannot correct it."""
        if not 400 <= error.status < 500 or error.status == 403:
            raise error
        for entry in error.errors:
            field = {"permissions": "chosen", "expires_at": "days"}.get(str(entry["field"]), str(entry["field"]))
            self.add_error(field if field in self.fields else None, str(entry["message"]))
        if not error.errors:
            self.add_error(None, error.message)


class InvitationCodeForm(forms.Form):
    """The code of an invitation. A script fills it in from the link."""

    code = forms.CharField(
        label="Code of the invitation",
        max_length=200,
        help_text="The part of the link after the #.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )


class DeviceCodeForm(forms.Form):
    """The code that a program shows. Any spelling of it will do."""

    code = forms.CharField(
        label="Code",
        max_length=50,
        help_text="Eight letters, as your terminal shows them.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false", "autofocus": True}
        ),
    )


def _password(label: str, autocomplete: str) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
    return forms.CharField(label=label, max_length=MAX_PASSWORD, strip=False, widget=widget)


class _NewPasswordForm(forms.Form):
    """A new password, typed twice since the page does not show it."""

    password = _password("Password", "new-password")
    password_again = _password("Password (again)", "new-password")

    def clean_password_again(self) -> str:
        again = str(self.cleaned_data["password_again"])
        if self.cleaned_data.get("password") not in (None, again):
            raise forms.ValidationError("The two passwords differ.")
        return again


class InvitationPasswordForm(_NewPasswordForm):
    """How an invited user is called, and the password with which they will sign in."""

    name = forms.CharField(
        label="Your name", max_length=MAX_USER_NAME, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )

    field_order = ("name", "password", "password_again")


class PasswordChangeForm(_NewPasswordForm):
    """A user's old password and the new one."""

    old_password = _password("Old password", "current-password")
    password = _password("New password", "new-password")
    password_again = _password("New password (again)", "new-password")

    field_order = ("old_password", "password", "password_again")
