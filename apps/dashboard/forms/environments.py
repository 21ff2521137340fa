"""The forms of environments and deployments."""

import json
from typing import Any

from django import forms

from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from apps.jobs.selectors.environments import approver_lines, approvers_read
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import ApplicationError, InvalidInput
from controlplane.lib.freezes import freeze_line, freezes_read


class EnvironmentForm(RefusableForm):
    """An environment to change. `revision` is the one that the user has seen, so that no other change is lost."""

    url = forms.CharField(
        label="Address",
        required=False,
        max_length=500,
        help_text="Where people see what is live.",
        widget=forms.TextInput,
    )
    allowed_refs = forms.CharField(
        label="Allowed refs",
        required=False,
        max_length=20_000,
        help_text="One pattern per line, as main, release/* or refs/tags/v*. If empty, all refs may be deployed.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    approvals = forms.IntegerField(
        label="Approvals", min_value=0, max_value=10, initial=0, help_text="How many people must approve."
    )
    approvers = forms.CharField(
        label="Who may approve",
        required=False,
        max_length=10_000,
        help_text="One role (operator, admin, …) or e-mail address of a user per line.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    requester_may_not_approve = forms.BooleanField(
        label="Another person must approve",
        required=False,
        help_text="Not the one who started the run, or ran the job again.",
    )
    wait_minutes = forms.IntegerField(
        label="Wait timer",
        min_value=0,
        max_value=30 * 24 * 60,
        initial=0,
        help_text="For so many minutes, each deployment waits once it is ready.",
    )
    freezes = forms.CharField(
        label="Freezes",
        required=False,
        max_length=20_000,
        help_text="When nothing is deployed, one per line: FRI 16:00 to MON 08:00 Europe/Berlin, or "
        "2026-12-20T18:00 to 2027-01-04T08:00 Europe/Berlin: holidays.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    revision = forms.IntegerField(min_value=0, max_value=10**9, initial=0, widget=forms.HiddenInput)

    def clean_approvers(self) -> tuple[list[str], list[str]]:
        """Roles, and ids of users. Raises ValidationError for a line that is neither."""
        try:
            return approvers_read(self.cleaned_data["approvers"].splitlines(), field="approvers")
        except InvalidInput as error:
            raise forms.ValidationError([str(one["message"]) for one in error.errors]) from error

    def clean_freezes(self) -> list[dict[str, str | None]]:
        """The lines as windows. Raises ValidationError with the number of a malformed line."""
        try:
            return freezes_read(self.cleaned_data["freezes"].splitlines(), field="freezes")
        except InvalidInput as error:
            raise forms.ValidationError([str(one["message"]) for one in error.errors]) from error

    @property
    def members(self) -> dict[str, Any]:
        """What the user says of the environment."""
        given = self.cleaned_data
        roles, ids = given["approvers"]
        return {
            "url": given["url"] or None,
            "allowed_refs": given["allowed_refs"].split(),
            "approvals": given["approvals"],
            "approver_roles": roles,
            "approver_ids": ids,
            "requester_may_not_approve": given["requester_may_not_approve"],
            "wait_seconds": given["wait_minutes"] * 60,
            "freezes": given["freezes"],
        }

    def _field_of(self, path: str) -> str | None:
        shown_by = {"approver_roles": "approvers", "approver_ids": "approvers", "wait_seconds": "wait_minutes"}
        found = super()._field_of(path)
        return found or shown_by.get(path)


class EnvironmentNewForm(EnvironmentForm):
    """An environment to make."""

    name = forms.CharField(
        max_length=55,
        help_text="As jobs name it under environment. It cannot be changed later.",
        widget=forms.TextInput(attrs=PLAIN),
    )

    revision = None  # type: ignore[assignment]

    field_order = ("name",)

    def refuse(self, error: ApplicationError) -> None:
        """Show that the name is taken next to it, and other errors as for any environment."""
        taken = error.code == ErrorCode.NAME_TAKEN
        super().refuse(InvalidInput.field("name", error.message) if taken else error)


class DeployForm(RefusableForm):
    """A deployment to ask for. With `key`, submitting the same form twice starts only one run."""

    pipeline = forms.CharField(max_length=63, widget=forms.TextInput(attrs={**PLAIN, "list": "pipelines"}))
    git_ref = forms.CharField(
        label="Git ref",
        required=False,
        max_length=255,
        help_text="A branch, tag or commit. If empty, the pipeline's default ref.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    @property
    def idempotency_key(self) -> str | None:
        """A key that is equal only for the same form with the same content."""
        key = self.cleaned_data["key"]
        return json.dumps([key, self.cleaned_data["pipeline"], self.cleaned_data["git_ref"]]) if key else None


def environment_initial(environment: Any) -> dict[str, Any]:
    """What the form of an environment begins with."""
    return {
        "url": environment.url or "",
        "allowed_refs": "\n".join(environment.allowed_refs),
        "approvals": int(environment.approvals),
        "approvers": "\n".join(approver_lines(environment)),
        "requester_may_not_approve": bool(environment.requester_may_not_approve),
        "wait_minutes": int(environment.wait_seconds) // 60,
        "freezes": "\n".join(map(freeze_line, environment.freezes or ())),
        "revision": int(environment.revision),
    }
