"""The forms of schedules."""

from typing import Any

from django import forms

from apps.dashboard.forms.lines import parameter_lines
from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from controlplane.lib.cron import cron_validate
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, InvalidInput, NotFound


class ScheduleForm(RefusableForm):
    """A schedule to change. `revision` is the one that the user has seen, so that no other change is lost."""

    cron = forms.CharField(
        label="When",
        max_length=100,
        help_text="Minute, hour, day of the month, month and day of the week. H is a number that the schedule keeps: "
        "H 3 * * 1-5 is on workdays at some minute after three, H/15 * * * * every 15 minutes.",
        widget=forms.TextInput(attrs={**PLAIN, "placeholder": "H 3 * * 1-5"}),
    )
    zone = forms.CharField(
        label="Time zone",
        max_length=64,
        initial="UTC",
        help_text="As in Europe/Berlin.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    git_ref = forms.CharField(
        label="Git ref",
        required=False,
        max_length=255,
        help_text="A branch, tag or commit. If empty, the pipeline's default ref.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    parameters = forms.CharField(
        required=False,
        max_length=60_000,
        help_text="One name=value per line, for the parameters of the pipeline.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )
    only_if_changed = forms.BooleanField(
        label="Only if something changed",
        required=False,
        help_text="A run ends before its jobs if the last finished run of this schedule built the same commit. An "
        "agent fetches the ref to see that.",
    )
    revision = forms.IntegerField(min_value=0, max_value=10**9, initial=0, widget=forms.HiddenInput)

    def clean_parameters(self) -> dict[str, str]:
        """The lines as a mapping. Raises ValidationError with the number of a malformed line."""
        return parameter_lines(self.cleaned_data["parameters"])

    def clean(self) -> dict[str, Any]:
        """Say what is wrong with the times, too, if other fields keep the service from being asked."""
        given = self.cleaned_data
        if self.errors and {"cron", "zone"} <= given.keys():
            try:
                cron_validate(given["cron"], zone=given["zone"], seed="")
            except InvalidInput as error:
                self.refuse(error)
        return given

    @property
    def members(self) -> dict[str, Any]:
        """What the user says of the schedule."""
        names = ("cron", "zone", "git_ref", "parameters", "only_if_changed")
        return {name: self.cleaned_data[name] for name in names}


class ScheduleNewForm(ScheduleForm):
    """A schedule to add."""

    name = forms.CharField(
        max_length=63,
        help_text="Lower-case letters, digits, - and _, as nightly. It cannot be changed later.",
        widget=forms.TextInput(attrs=PLAIN),
    )

    revision = None  # type: ignore[assignment]

    field_order = ("name", "cron", "zone", "git_ref", "parameters", "only_if_changed")

    def refuse(self, error: ApplicationError) -> None:
        """Show that the name is taken next to it, and other errors as for any schedule."""
        if isinstance(error, NotFound):
            raise error
        taken = error.code == ErrorCode.NAME_TAKEN
        super().refuse(InvalidInput.field("name", error.message) if taken else error)
