"""The forms of secrets and their rotation."""

import json
from typing import Any

from django import forms

from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from apps.secrets.states import MAX_BYTES
from controlplane.lib.errors import ApplicationError


class _WriteOnlyTextarea(forms.Textarea):
    """Lines of text that no page shows, also not the page that shows a mistake in the form."""

    def format_value(self, value: Any) -> str:  # noqa: ARG002 — Django's own
        return ""


class SecretValueForm(RefusableForm):
    """A new value of a secret."""

    value = forms.CharField(
        strip=False,
        max_length=MAX_BYTES,
        help_text="At least 8 characters. It cannot be read back.",
        widget=_WriteOnlyTextarea(attrs={**PLAIN, "rows": 3}),
    )

    def clean_value(self) -> str:
        """The value. Browsers send CRLF at the end of lines; a key file has LF."""
        return str(self.cleaned_data["value"]).replace("\r\n", "\n")


class SecretNewForm(SecretValueForm):
    """A secret to create."""

    name = forms.CharField(
        max_length=64,
        help_text="The variable in which steps get the value: capital letters, digits and _, as PYPI_TOKEN.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    pipeline = forms.CharField(
        required=False,
        max_length=63,
        help_text="Only its jobs get it. Empty: those of all pipelines.",
        widget=forms.TextInput(attrs={**PLAIN, "list": "pipelines"}),
    )
    environment = forms.CharField(
        required=False,
        max_length=63,
        help_text="Only jobs that deploy there get it, on agents that may. Empty: all jobs.",
        widget=forms.TextInput(attrs={**PLAIN, "list": "environments"}),
    )
    branches = forms.CharField(
        required=False,
        max_length=2000,
        help_text="Only their jobs get it. Patterns, separated by spaces, as main release/*. Empty: all refs.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    pull_requests = forms.BooleanField(
        label="Also for jobs of pull requests", required=False, help_text="Those of forks never get a secret."
    )
    description = forms.CharField(required=False, max_length=500, help_text="What it is for.")

    field_order = ("name", "value", "pipeline", "environment", "branches", "pull_requests", "description")


class RotationForm(RefusableForm):
    """How a secret is rotated, as JSON: the members of ``PUT /secrets/{secret_id}/rotation``."""

    configuration = forms.CharField(
        strip=False,
        max_length=200_000,
        help_text="The members of PUT /secrets/…/rotation. Credentials are named by the ids of their secrets.",
        widget=forms.Textarea(attrs={**PLAIN, "rows": 24}),
    )

    def clean_configuration(self) -> str:
        """The text, which must be a JSON object with the members of a configuration."""
        text = str(self.cleaned_data["configuration"])
        try:
            found = json.loads(text)
        except ValueError:
            raise forms.ValidationError("This must be JSON.") from None
        known = {"rotator", "config", "targets", "schedule", "overlap_minutes"}
        if not isinstance(found, dict) or not found.keys() <= known or "rotator" not in found:
            raise forms.ValidationError(f"This must be an object with {', '.join(sorted(known))}; rotator is required.")
        minutes = found.get("overlap_minutes")
        if not isinstance(found.get("targets") or [], list) or not (minutes is None or type(minutes) is int):
            raise forms.ValidationError("targets must be a list, and overlap_minutes a whole number.")
        self.members: dict[str, Any] = found
        return text

    def refuse(self, error: ApplicationError) -> None:
        """Show what is wrong with a member next to the text."""
        self.add_error("configuration", error.message)
