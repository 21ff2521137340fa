"""The form that starts a run."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.forms.boundfield import BoundField
from django.urls import reverse_lazy

from apps.dashboard.forms.lines import MAX_PARAMETER, parameter_lines, value_lines
from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from apps.pipelines.definitions import Parameter

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class JobForm(RefusableForm):
    """A run to start. With `key`, submitting the same form twice starts only one run.

    `parameters` are those of the pipeline, each with a field of its own. If they are not known, there is one field of
    lines for all of them: the definition is in the repository.
    """

    pipeline = forms.CharField(
        max_length=100,
        widget=forms.Select(
            attrs={
                "hx-get": reverse_lazy("dashboard:job_new"),
                "hx-trigger": "change",
                "hx-target": "#job-parameters",
                "hx-swap": "outerHTML",
            }
        ),
    )
    git_ref = forms.CharField(
        label="Git ref",
        required=False,
        max_length=255,
        help_text="A branch, tag or commit. If empty, the pipeline's default ref.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    env = forms.CharField(
        label="Variables",
        required=False,
        max_length=16_384,
        help_text="One NAME=value per line. Everyone who can see the job can read them: put no secrets here.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    fresh = forms.BooleanField(
        label="Run every job, also those whose inputs have not changed",
        required=False,
        help_text="Otherwise jobs that name their inputs take the result of an earlier run that had the same ones.",
    )
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    # The pipeline whose parameters the form has shown. The template writes it.
    shown_for = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, pipelines: Iterable[str], parameters: Mapping[str, Parameter] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pipeline"].widget.choices = [(name, name) for name in pipelines]
        self.parameters = parameters
        if parameters is None:
            self.fields["parameters"] = forms.CharField(
                label="Parameters",
                required=False,
                max_length=20_000,
                help_text="One name=value per line, for the parameters of the repository's .hybrid-ci.yml.",
                widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
            )
        for name, parameter in (parameters or {}).items():
            self.fields[f"parameter-{name}"] = _parameter_field(parameter)

    def parameter_fields(self) -> list[BoundField]:
        """The fields of the parameters."""
        return [self[name] for name in self.fields if name.startswith("parameter")]

    def clean(self) -> dict[str, Any]:
        """Raises ValidationError if the user has not seen the parameters of the chosen pipeline."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.parameters and cleaned.get("shown_for") != cleaned.get("pipeline"):
            defaults = {f"parameter-{name}": parameter.default for name, parameter in self.parameters.items()}
            self.data = {**defaults, **dict(self.data.items())}
            raise forms.ValidationError("This pipeline has parameters. Check them, and start the run.")
        return cleaned

    def clean_parameters(self) -> dict[str, str]:
        """The lines as a mapping. Raises ValidationError with the number of a malformed line."""
        return parameter_lines(self.cleaned_data["parameters"])

    @property
    def given(self) -> dict[str, Any]:
        """The values of the parameters. What is left empty has its default."""
        if self.parameters is None:
            return dict(self.cleaned_data["parameters"])
        values = {name: self.cleaned_data[f"parameter-{name}"] for name in self.parameters}
        return {name: value for name, value in values.items() if value != "" or self._may_be_empty(name)}

    def _may_be_empty(self, name: str) -> bool:
        parameter = (self.parameters or {})[name]
        return parameter.type == "text" and not parameter.required

    def _field_of(self, path: str) -> str | None:
        name = path.removeprefix("parameters.")
        return f"parameter-{name}" if f"parameter-{name}" in self.fields else super()._field_of(path)

    def clean_env(self) -> dict[str, str]:
        """The variables as a mapping. Raises ValidationError with the number of a malformed line."""
        return value_lines(self.cleaned_data["env"], _VARIABLE, "NAME=value")

    @property
    def idempotency_key(self) -> str | None:
        """A key that is equal only for the same form with the same content: an edited form queues another job."""
        key = self.cleaned_data["key"]
        if not key:
            return None
        content = [self.cleaned_data[name] for name in ("pipeline", "git_ref", "env")]
        more = [self.given, self.cleaned_data["fresh"]]
        return json.dumps([key, *content, *(more if any(more) else [])])


def _parameter_field(parameter: Parameter) -> forms.Field:
    """The field of a parameter of a pipeline. What is wrong with its value, the language of definitions says."""
    common: dict[str, Any] = {
        "label": parameter.name,
        "required": parameter.required and parameter.type != "flag",
        "help_text": parameter.description,
        "initial": parameter.default,
    }
    if parameter.type == "flag":
        return forms.BooleanField(**common)
    if parameter.type == "choice":
        choices = [(option, option) for option in parameter.options]
        return forms.CharField(**common, max_length=MAX_PARAMETER, widget=forms.Select(choices=choices))
    attrs = {**PLAIN, **({"inputmode": "decimal"} if parameter.type == "number" else {})}
    return forms.CharField(**common, max_length=MAX_PARAMETER, widget=forms.TextInput(attrs=attrs))
