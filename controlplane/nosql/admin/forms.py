"""Forms that pass their data to a service and show the errors that it raises."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget

from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, Unavailable
from controlplane.nosql.facade import Facade


class SearchForm(forms.Form):
    """The fields above a list by which it can be searched; none is required. A page that has one has no search box."""

    def conditions(self) -> Mapping[str, Any]:
        """The valid fields as conditions of a query: ``filter(**conditions)``."""
        raise NotImplementedError


class RecordForm(forms.ModelForm):  # type: ignore[type-arg]
    """The form of one record. Validation calls the service, since only the service can check all rules.

    A subclass declares its fields and `write`. To keep two users from overwriting each other's changes, it names the
    hidden field with the revision that was read (`revision_field`) and passes it to the service.
    """

    # Set by the admin page for each request.
    actor: ClassVar[Actor]
    # The field with the record's revision, if it has one.
    revision_field: ClassVar[str | None] = None
    # The form shows errors of fields that it does not have at this field.
    error_field: ClassVar[str | None] = None
    # Which field shows errors of members that the form has under another name, or that are part of a member.
    shown_at: ClassVar[Mapping[str, str]] = {}
    # A secret that `write` created. Nothing stores it, and the response to the form shows it once.
    secret = ""

    _errors: Any

    def __init__(
        self, data: Any = None, files: Any = None, *, instance: Any = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        read = {name: self.shown(name, instance) for name in self.base_fields} if instance is not None else {}
        super().__init__(data, files, instance=instance, initial={**read, **(initial or {})})

    def shown(self, name: str, facade: Any) -> Any:
        """The value that a field shows for a record."""
        return getattr(facade, name, None)

    def write(self, actor: Actor) -> Any:
        """Call the service with `cleaned_data`; returns the current record. Raises the errors of the service."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        """Call the service, where Django would validate the model and query for unique values."""
        if self._errors:
            return
        try:
            record = self.write(self.actor)
        except InvalidInput as error:
            self._show(error)
        except Conflict as error:
            self._show_conflict(error)
        except Unavailable as error:
            self.add_error(None, error.message)
        else:
            self.instance = type(self.instance).from_record(record)
            self.instance.secret = self.secret

    def _show(self, error: InvalidInput) -> None:
        for fault in error.errors or [{"field": "", "message": error.message}]:
            place = f"line {fault['line']}: " if fault.get("line") else ""
            name = str(fault["field"])
            name = self.shown_at.get(re.split(r"[.\[]", name)[0], name)
            if name in self.fields:
                self.add_error(name, f"{place}{fault['message']}")
            else:
                label = f"{name}: " if name else ""
                self.add_error(self.error_field, f"{place}{label}{fault['message']}")

    def _show_conflict(self, error: ApplicationError) -> None:
        self.add_error(None, error.message)
        if error.code != "changed_meanwhile":
            return
        self.add_error(
            None, "Your changes were not saved. Load the page again to see the current values, then repeat them."
        )
        current = type(self.instance)._default_manager.get_queryset().filter(pk=self.instance.pk).first()
        for name, field in self.fields.items():
            if (
                current is None
                or name == self.revision_field
                or isinstance(field.widget, forms.PasswordInput | _WriteOnlyTextarea)
            ):
                continue
            theirs = self.shown(name, current)
            if theirs != self.cleaned_data.get(name):
                self.add_error(None, f"{self[name].label} is now: {_words(theirs)}")

    def save(self, commit: bool = True) -> Any:  # noqa: ARG002 — Django's own
        """Return the record, which `write` has already written."""
        return self.instance

    def save_m2m(self) -> None:
        """Do nothing: a record has no many-to-many fields."""


class NamesField(forms.CharField):
    """Several names in one line, separated by spaces or commas. Its value is a list of texts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": AdminTextInputWidget, "required": False, "max_length": 2000, **options})

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [name for name in str(super().clean(value)).replace(",", " ").split() if name]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial) != data)


class LinesField(forms.CharField):
    """Several texts, one in a line. Its value is a list of them."""

    def __init__(self, **options: Any) -> None:
        widget = AdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"})
        super().__init__(**{"widget": widget, "required": False, "max_length": 20_000, **options})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.clean(data)


def text(**options: Any) -> forms.CharField:
    """A field for one line of text."""
    return forms.CharField(**{"widget": AdminTextInputWidget, "max_length": 2048, **options})


def long_text(**options: Any) -> forms.CharField:
    """A field for several lines, which keeps their white space."""
    return forms.CharField(**{"widget": AdminTextareaWidget(attrs={"rows": 20}), "strip": False, **options})


class _WriteOnlyTextarea(AdminTextareaWidget):
    """Lines of text that no page shows, also not the page that shows a mistake in the form."""

    def __init__(self) -> None:
        super().__init__(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"})

    def format_value(self, value: Any) -> str:  # noqa: ARG002 — Django's own
        return ""


def write_only_text(**options: Any) -> forms.CharField:
    """A field for a secret of one line or several."""
    return forms.CharField(**{"widget": _WriteOnlyTextarea, "strip": False, **options})


def revision() -> forms.IntegerField:
    """A hidden field with the revision that was read."""
    return forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**53)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value if value not in (None, "") else "empty")


def form_bound(form: type[RecordForm], model: type[Facade], actor: Actor) -> type[RecordForm]:
    """The form class for one request, with its actor and its model."""
    meta = type("Meta", (), {"model": model, "fields": []})
    return type(form.__name__, (form,), {"Meta": meta, "actor": actor})
