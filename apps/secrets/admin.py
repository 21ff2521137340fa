"""Secrets in the admin: their values go in and never come out."""

from typing import Any

from django import forms
from django.contrib.admin import display

from apps.accounts.policies import Permission
from apps.secrets.models import SPACE, Secret
from apps.secrets.services import secret_change, secret_create, secret_delete, secret_set
from apps.secrets.states import MAX_BYTES, Scope
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.forms import NamesField, RecordForm, text, write_only_text
from controlplane.nosql.admin.options import NosqlModelAdmin, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade


class SecretFacade(Facade, record=Secret, only_partition=SPACE):
    """A secret as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "secret"

    def __str__(self) -> str:
        return str(self.record.secret_id)


class SecretForm(RecordForm):
    """What a user can change of a secret."""

    value = write_only_text(
        required=False, max_length=MAX_BYTES, help_text="A new value, which jobs get from now on. Empty: it stays."
    )
    description = text(required=False, max_length=500)
    owner = text(max_length=500, help_text="Who answers for it.")

    def shown(self, name: str, facade: Any) -> Any:
        return None if name == "value" else super().shown(name, facade)

    def write(self, actor: Actor) -> Secret:
        secret_id = self.instance.pk
        if self.cleaned_data["value"]:
            secret_set(actor=actor, secret_id=secret_id, value=_lines(self.cleaned_data["value"]))
        changed = {name: self.cleaned_data[name] for name in ("description", "owner")}
        return secret_change(actor=actor, secret_id=secret_id, **changed)


class SecretAddForm(RecordForm):
    """A new secret."""

    name = text(max_length=64, help_text="The variable in which steps get the value, as PYPI_TOKEN.")
    value = write_only_text(max_length=MAX_BYTES, help_text="At least 8 characters. It cannot be read back.")
    pipeline = text(required=False, max_length=63, help_text="Only for jobs of this pipeline.")
    environment = text(required=False, max_length=63, help_text="Only for jobs that deploy to this environment.")
    branches = NamesField(help_text="Only for branches that one of these patterns matches, as release/*.")
    pull_requests = forms.BooleanField(
        required=False, help_text="Also for jobs of pull requests, but never for those of forks."
    )
    description = text(required=False, max_length=500)

    def write(self, actor: Actor) -> Secret:
        data = self.cleaned_data
        scope = Scope(
            pipeline=data["pipeline"] or None,
            environment=data["environment"] or None,
            branches=tuple(data["branches"]),
            pull_requests=data["pull_requests"],
        )
        try:
            return secret_create(
                actor=actor,
                name=data["name"],
                value=_lines(data["value"]),
                scope=scope,
                description=data["description"] or None,
            )
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error


class SecretAdmin(NosqlModelAdmin):
    # A form may escape each byte of a value.
    body_limit = 8 * MAX_BYTES
    permissions = {  # noqa: RUF012
        "view": Permission.SECRETS_READ,
        "add": Permission.SECRETS_MANAGE,
        "change": Permission.SECRETS_MANAGE,
        "delete": Permission.SECRETS_MANAGE,
    }
    history_kind = "secret"
    list_display = ("secret_id", "scope_words", "version", "fingerprint", moment("changed_at"), moment("delivered_at"))
    search_fields = ("secret_id",)
    search_help_text = "The beginning of a name."
    form = SecretForm
    add_form = SecretAddForm
    details = (
        "secret_id",
        "scope_words",
        "version",
        "fingerprint",
        "created_by",
        moment("created_at"),
        "changed_by",
        moment("changed_at"),
        moment("delivered_at"),
    )
    delete_note = "Its values are deleted for good. Jobs that name it fail from now on."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(secret_id__startswith=term.upper())

    def record_delete(self, actor: Actor, obj: Any) -> None:
        secret_delete(actor=actor, secret_id=obj.pk)

    @display(description="jobs that may get it")
    def scope_words(self, obj: Any) -> str:
        words: str = obj.record.scope.words
        return words

    @display(description="version")
    def version(self, obj: Any) -> str:
        return str(int(obj.record.current))


def _lines(value: str) -> str:
    """Browsers send CRLF at the end of lines; a key file has LF."""
    return value.replace("\r\n", "\n")


site.register(SecretFacade, SecretAdmin)
