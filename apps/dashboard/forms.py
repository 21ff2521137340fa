"""The forms that pages submit."""

import json
import re
from collections.abc import Iterable
from typing import Any

from django import forms

from controlplane.lib.errors import ApplicationError, NotFound

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class JobForm(forms.Form):
    """A job to queue. With `key`, submitting the same form twice queues only one job."""

    pipeline = forms.CharField(max_length=100, widget=forms.Select)
    git_ref = forms.CharField(
        label="Git ref",
        required=False,
        max_length=255,
        help_text="A branch, tag or commit. If empty, the pipeline's default ref.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )
    env = forms.CharField(
        label="Variables",
        required=False,
        max_length=16_384,
        help_text="One NAME=value per line. Everyone who can see the job can read them: put no secrets here.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, pipelines: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pipeline"].widget.choices = [(name, name) for name in pipelines]

    def clean_env(self) -> dict[str, str]:
        """The variables as a mapping. Raises ValidationError with the number of a malformed line."""
        variables: dict[str, str] = {}
        for number, line in enumerate(self.cleaned_data["env"].splitlines(), start=1):
            if not line.strip():
                continue
            name, equals, value = line.partition("=")
            if not equals or not _VARIABLE.fullmatch(name.strip()):
                raise forms.ValidationError(f"Line {number} is not of the form NAME=value.")
            variables[name.strip()] = value
        return variables

    @property
    def idempotency_key(self) -> str | None:
        """A key that is equal only for the same form with the same content: an edited form queues another job."""
        key = self.cleaned_data["key"]
        return json.dumps([key, *(self.cleaned_data[name] for name in ("pipeline", "git_ref", "env"))]) if key else None

    def refuse(self, error: ApplicationError) -> None:
        """Show a service's error next to the field that it names. Raises an error again that is not about this form."""
        if isinstance(error, NotFound):
            self.add_error("pipeline", error.message)
            return
        for entry in error.errors:
            field = str(entry["field"]).split(".")[0].split("[")[0]
            self.add_error(field if field in self.fields else None, str(entry["message"]))
        if not error.errors:
            if not 400 <= error.status < 500 or error.status == 403:
                raise error
            self.add_error(None, error.message)
