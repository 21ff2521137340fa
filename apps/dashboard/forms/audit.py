"""The search of the audit trail."""

from itertools import groupby
from typing import Any

from django import forms

from apps.audit.actions import Action
from apps.audit.selectors import actor_meant
from apps.dashboard.forms.refusable import PLAIN
from apps.dashboard.selectors.actors import actors_meant
from controlplane.lib.errors import InvalidInput


def _in_words(text: str) -> str:
    return text.replace("_", " ").capitalize()


def _choices() -> list[Any]:
    """The actions, grouped by what they are about."""
    subjects = groupby(sorted(action.value for action in Action), lambda action: action.partition(".")[0])
    return [
        ("", "Any"),
        *(
            (_in_words(subject), [(one, _in_words(one.partition(".")[2])) for one in found])
            for subject, found in subjects
        ),
    ]


class AuditForm(forms.Form):
    """Which audit events to list. `conditions` are the arguments of `audit_search`."""

    actor = forms.CharField(
        label="Who",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**PLAIN, "placeholder": "ada@example.com"}),
    )
    target = forms.CharField(
        label="What",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**PLAIN, "placeholder": "pipeline:web"}),
    )
    action = forms.ChoiceField(label="Action", required=False, choices=_choices())
    first = forms.DateField(label="From (UTC)", required=False, widget=forms.DateInput({"type": "date"}))
    last = forms.DateField(label="To", required=False, widget=forms.DateInput({"type": "date"}))

    def clean_actor(self) -> str | None:
        """The actor as ``kind:id`` or ``system``; an e-mail address or the name of an agent leads to it."""
        text = self.cleaned_data["actor"]
        try:
            return actor_meant(text, actors_meant) if text else None
        except InvalidInput as error:
            raise forms.ValidationError(error.errors[0]["message"]) from error

    def clean(self) -> None:
        first, last = self.cleaned_data.get("first"), self.cleaned_data.get("last")
        if first and last and first > last:
            self.add_error("first", "The first day must not be after the last one.")

    @property
    def conditions(self) -> dict[str, Any]:
        """What the user asks for, as the arguments of `audit_search`."""
        asked = self.cleaned_data
        action = Action(asked["action"]) if asked["action"] else None
        named = {"actor": asked["actor"], "target": asked["target"] or None, "action": action}
        return {**named, "first_day": asked["first"], "last_day": asked["last"]}
