"""Forms that hand what they were given to a service, and show what it has against it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget

from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, Unavailable
from controlplane.nosql.facade import Facade


class RecordForm(forms.ModelForm):  # type: ignore[type-arg]
    """The form of one record. It writes when it is found valid, since only the service knows whether it may be.

    A subclass declares its fields and `write`. Against two people's overwriting each other it names the field that
    carries, hidden, the revision that was read (`revision_field`), and hands it to the service.
    """

    # Set by the admin page for each request.
    actor: ClassVar[Actor]
    # The field that counts changes, if there is one.
    revision_field: ClassVar[str | None] = None
    # Errors of a field that the form does not have are shown at this one.
    error_field: ClassVar[str | None] = None
    # What `write` has made and is kept nowhere: the answer to the form shows it, once.
    secret = ""

    _errors: Any

    def __init__(
        self, data: Any = None, files: Any = None, *, instance: Any = None, initial: Mapping[str, Any] | None = None
    ) -> None:
        read = {name: self.shown(name, instance) for name in self.base_fields} if instance is not None else {}
        super().__init__(data, files, instance=instance, initial={**read, **(initial or {})})

    def shown(self, name: str, facade: Any) -> Any:
        """The value of a field for a record as it was read."""
        return getattr(facade, name, None)

    def write(self, actor: Actor) -> Any:
        """Call the service with `cleaned_data`; returns the record as it stands now. Raises what services raise."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        """Django would check the model here, and ask the database whether values are unique."""
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
            None, "Nothing of yours was saved. Load the page again to see what stands there and change that."
        )
        standing = type(self.instance)._default_manager.get_queryset().filter(pk=self.instance.pk).first()
        for name, field in self.fields.items():
            if standing is None or name == self.revision_field or isinstance(field.widget, forms.PasswordInput):
                continue
            theirs = self.shown(name, standing)
            if theirs != self.cleaned_data.get(name):
                self.add_error(None, f"{self[name].label} is now: {_words(theirs)}")

    def save(self, commit: bool = True) -> Any:  # noqa: ARG002 — Django's own
        """It has been written."""
        return self.instance

    def save_m2m(self) -> None:
        """There is nothing beside the record."""


class NamesField(forms.CharField):
    """Several names in one line, separated by spaces or commas; a list of texts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": AdminTextInputWidget, "required": False, "max_length": 2000, **options})

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [name for name in str(super().clean(value)).replace(",", " ").split() if name]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial) != data)


def text(**options: Any) -> forms.CharField:
    """One line."""
    return forms.CharField(**{"widget": AdminTextInputWidget, "max_length": 2048, **options})


def long_text(**options: Any) -> forms.CharField:
    """Several lines, kept as they were written."""
    return forms.CharField(**{"widget": AdminTextareaWidget(attrs={"rows": 20}), "strip": False, **options})


def revision() -> forms.IntegerField:
    """The revision that was read, hidden in the form."""
    return forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**53)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value if value not in (None, "") else "empty")


def form_bound(form: type[RecordForm], model: type[Facade], actor: Actor) -> type[RecordForm]:
    """The form for one request: whose act it is, and of which model."""
    meta = type("Meta", (), {"model": model, "fields": []})
    return type(form.__name__, (form,), {"Meta": meta, "actor": actor})
