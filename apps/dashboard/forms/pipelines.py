"""The forms of pipelines."""

import re
from collections.abc import Iterable
from typing import Any

from django import forms

from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, InvalidInput


class PipelineForm(RefusableForm):
    """A pipeline to change. `revision` is the one that the user has seen, so that no other change is lost."""

    repository = forms.CharField(
        max_length=2000,
        help_text="An https, http, ssh, git or file URL, user@host:path, or an absolute path on the agents' machines.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    default_ref = forms.CharField(
        label="Default ref",
        max_length=255,
        initial="main",
        help_text="The branch, tag or commit that a run builds if it names none.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    labels = forms.CharField(
        required=False,
        max_length=2000,
        help_text="What an agent must have to run its jobs, as in: linux gpu. Leave it empty if there is a definition "
        "below, which has its own labels.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    source = forms.CharField(
        label="Events of",
        required=False,
        max_length=63,
        widget=forms.Select,
        help_text="The connection whose pushes and pull requests start runs.",
    )
    source_repository = forms.CharField(
        label="Repository there",
        required=False,
        max_length=300,
        help_text="Its full name, as acme/shop.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    definition = forms.CharField(
        required=False,
        strip=False,
        max_length=200_000,
        help_text="YAML. If it is empty, each run reads the .hybrid-ci.yml of the repository.",
        widget=forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "autocapitalize": "none"}),
    )
    badge = forms.BooleanField(
        required=False,
        label="Public badge",
        help_text="Everyone may see the result of a branch's last run as a picture, also without signing in.",
    )
    fetch_secret = forms.CharField(
        label="Secret for fetching",
        required=False,
        max_length=64,
        help_text="The name of the secret with which agents fetch: a token, user:token, or a private key for SSH. If "
        "empty, they use the GitHub App that the pipeline is bound to, or what their machines have.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    revision = forms.IntegerField(min_value=0, max_value=10**9, initial=0, widget=forms.HiddenInput)

    def __init__(self, *args: Any, sources: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["source"].widget.choices = [("", "none"), *((name, name) for name in sources)]

    @property
    def source_members(self) -> dict[str, str | None]:
        """The connection and the repository there; a form that is older than these has neither, and changes neither."""
        if "source" not in self.data:
            return {}
        source = self.cleaned_data["source"]
        return {"source": source, "source_repository": self.cleaned_data["source_repository"] if source else None}

    def clean_labels(self) -> list[str]:
        """The labels, which spaces or commas separate."""
        return re.split(r"[\s,]+", self.cleaned_data["labels"].strip()) if self.cleaned_data["labels"].strip() else []

    def clean_definition(self) -> str | None:
        """The definition, or None for the one in the repository. Browsers send CRLF at the end of lines."""
        text: str = self.cleaned_data["definition"].replace("\r\n", "\n")
        return text if text.strip() else None

    def refuse(self, error: ApplicationError) -> None:
        """Show the mistakes in a definition with their lines, and other errors next to their fields."""
        if error.code != ErrorCode.DEFINITION_INVALID:
            super().refuse(error)
            return
        for entry in error.errors:
            place = f"Line {entry['line']}, column {entry['column']}: " if entry.get("line") else ""
            name = "" if entry["field"] == "definition" else f"{entry['field']} "
            self.add_error("definition", f"{place}{name}{entry['message']}")


class PipelineNewForm(PipelineForm):
    """A pipeline to add."""

    name = forms.CharField(
        max_length=63,
        help_text="Lower-case letters, digits, - and _. It cannot be changed later.",
        widget=forms.TextInput(attrs=PLAIN),
    )

    field_order = (
        "name",
        "repository",
        "default_ref",
        "source",
        "source_repository",
        "labels",
        "definition",
        "badge",
        "fetch_secret",
    )

    def refuse(self, error: ApplicationError) -> None:
        """Show that the name is taken next to it, and other errors as for any pipeline."""
        taken = error.code == ErrorCode.NAME_TAKEN
        super().refuse(InvalidInput.field("name", error.message) if taken else error)
