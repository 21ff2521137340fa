"""The forms of targets and rules of notifications."""

from collections.abc import Iterable
from typing import Any

from django import forms

from apps.dashboard.forms.lines import listed_lines
from apps.dashboard.forms.refusable import PLAIN, RefusableForm
from apps.notifications.states import Occasion, TargetKind


class NotificationTargetForm(RefusableForm):
    """A target of notifications to change. Its address is never shown; empty means that it stays."""

    name = forms.CharField(max_length=64, widget=forms.TextInput(attrs=PLAIN))
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=2048,
        help_text="The https address, for all but e-mail. It is encrypted and never shown again.",
        widget=forms.TextInput(attrs={**PLAIN, "inputmode": "url"}),
    )
    emails = forms.CharField(
        label="E-mail addresses",
        required=False,
        max_length=6000,
        help_text="One per line, for e-mail.",
        widget=forms.Textarea(attrs={**PLAIN, "rows": 2}),
    )

    @property
    def members(self) -> dict[str, Any]:
        """What the user says of the target."""
        data = self.cleaned_data
        return {"name": data["name"], "url": data["url"].strip(), "emails": listed_lines(data["emails"])}


class NotificationTargetNewForm(NotificationTargetForm):
    """A target of notifications to add."""

    kind = forms.ChoiceField(
        choices=[
            (TargetKind.WEBHOOK, "Signed webhook"),
            (TargetKind.SLACK, "Slack, or Mattermost"),
            (TargetKind.TEAMS, "Microsoft Teams, by a workflow"),
            (TargetKind.EMAIL, "E-mail"),
        ]
    )

    field_order = ("name", "kind", "url", "emails")


class NotificationRuleForm(RefusableForm):
    """A rule of notifications: which target hears of what. `targets` are those that may be chosen."""

    target_id = forms.ChoiceField(label="Target")
    occasions = forms.MultipleChoiceField(
        label="When",
        choices=[(occasion.value, occasion.replace("_", " ").capitalize()) for occasion in Occasion],
        widget=forms.CheckboxSelectMultiple,
    )
    pipelines = forms.CharField(
        required=False,
        max_length=6000,
        help_text="One pattern per line, as api-*. If empty, all.",
        widget=forms.Textarea(attrs={**PLAIN, "rows": 2}),
    )
    branches = forms.CharField(
        required=False,
        max_length=6000,
        help_text="One pattern per line, as release/*. If empty, all.",
        widget=forms.Textarea(attrs={**PLAIN, "rows": 2}),
    )

    def __init__(self, *args: Any, targets: Iterable[tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        chosen = self.fields["target_id"]
        chosen.choices = list(targets)  # type: ignore[attr-defined]

    @property
    def members(self) -> dict[str, Any]:
        """What the user says of the rule."""
        data = self.cleaned_data
        patterns = {name: listed_lines(data[name]) for name in ("pipelines", "branches")}
        return {"target_id": data["target_id"], "occasions": data["occasions"], **patterns}


class SecretOverlapForm(RefusableForm):
    """For how long the old secret of a webhook signs, too."""

    overlap_hours = forms.IntegerField(
        label="Hours with both signatures", min_value=0, max_value=168, initial=24, widget=forms.NumberInput()
    )
