"""The forms of connections to providers of repositories."""

from collections.abc import Collection
from typing import Any

from django import forms
from django.conf import settings

from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, InvalidInput

_TOKEN = "For the API of the provider. It is encrypted and never shown again."


class ConnectionForm(RefusableForm):
    """A connection to change."""

    name = forms.CharField(
        required=False, max_length=100, help_text="For people. If empty, its id.", widget=forms.TextInput(attrs=PLAIN)
    )
    api_url = forms.CharField(
        label="Address of the API",
        required=False,
        max_length=500,
        help_text="If empty, that of github.com or gitlab.com. As https://git.example.com/api/v1.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    web_url = forms.CharField(
        label="Address of the pages",
        required=False,
        max_length=500,
        help_text="Where people see repositories. If empty, that of github.com or gitlab.com. As "
        "https://git.example.com.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    token = forms.CharField(
        required=False,
        max_length=16_384,
        help_text=f"{_TOKEN} If empty, it stays as it is.",
        widget=forms.PasswordInput(attrs={**PLAIN, "autocomplete": "new-password"}),
    )

    @property
    def members(self) -> dict[str, Any]:
        """What the service takes."""
        said = {name: self.cleaned_data[name] or None for name in ("name", "api_url", "web_url")}
        return said | ({"token": self.cleaned_data["token"]} if self.cleaned_data["token"] else {})


class ConnectionNewForm(ConnectionForm):
    """A connection to add."""

    provider = forms.ChoiceField(
        choices=[
            ("github", "GitHub, by a webhook of a repository or an organisation"),
            ("gitlab", "GitLab"),
            ("gitea", "Gitea or Forgejo"),
            ("standard", "Any sender, signed as Standard Webhooks has it"),
        ]
    )
    connection_id = forms.CharField(
        label="Id",
        max_length=63,
        help_text="Small letters, digits and -. It is part of the webhook's address and cannot be changed later.",
        widget=forms.TextInput(attrs=PLAIN),
    )

    field_order = ("provider", "connection_id", "name", "api_url", "web_url", "token")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["token"].help_text = f"{_TOKEN} Without one, no repositories are listed and no checks are shown."

    @property
    def members(self) -> dict[str, Any]:
        """What the service takes."""
        chosen = {name: self.cleaned_data[name] for name in ("provider", "connection_id")}
        return chosen | super().members

    def refuse(self, error: ApplicationError) -> None:
        """Show that the id is taken next to it, and other errors as for any connection."""
        taken = error.code == ErrorCode.NAME_TAKEN
        super().refuse(InvalidInput.field("connection_id", error.message) if taken else error)


class GithubAppForm(RefusableForm):
    """Where a GitHub App is created, and as which connection it is kept."""

    organisation = forms.CharField(
        required=False,
        max_length=39,
        help_text="The organisation that owns the app. If empty, your own account at GitHub does.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    web_url = forms.CharField(
        label="GitHub",
        max_length=500,
        help_text="https://github.com, or the address of your GitHub Enterprise.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    name = forms.CharField(
        label="Name of the app",
        required=False,
        max_length=34,
        help_text="No other app at GitHub has it. If empty, it is made of this control plane's host.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    connection_id = forms.CharField(
        label="Connection",
        max_length=63,
        help_text="The id of the connection that is made: small letters, digits and -.",
        widget=forms.TextInput(attrs=PLAIN),
    )

    @staticmethod
    def defaults(taken: Collection[str]) -> dict[str, str]:
        """What most users want: at github.com, with an id that is not taken."""
        ids = ("github", *(f"github-{number}" for number in range(2, len(taken) + 3)))
        free = next(name for name in ids if name not in taken)
        return {"web_url": settings.GITHUB_URL.rstrip("/"), "connection_id": free}

    @property
    def members(self) -> dict[str, Any]:
        """The arguments for the service."""
        given = {name: value for name, value in self.cleaned_data.items() if value}
        return {**given, "web_url": given["web_url"].rstrip("/")}


class RepositoryForm(RefusableForm):
    """A repository to make a pipeline of. Without a name, the pipeline has the repository's."""

    repository = forms.CharField(max_length=500)
    name = forms.CharField(required=False, max_length=63)
