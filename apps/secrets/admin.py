"""Secrets and their rotations in the admin: values go in and never come out."""

from typing import Any

from django import forms
from django.contrib.admin import display
from django.contrib.admin.utils import quote
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from apps.accounts.policies import Permission
from apps.secrets.models import AFTER_ROTATIONS, OPEN, SPACE, Rotation, Secret
from apps.secrets.rotation.steps import RotationStep, step_next
from apps.secrets.selectors.rotations import BY_DUE, BY_SECRET, rotation_find
from apps.secrets.services import secret_change, secret_create, secret_delete, secret_set
from apps.secrets.states import MAX_BYTES, Scope
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.forms import NamesField, RecordForm, text, write_only_text
from controlplane.nosql.admin.options import NosqlModelAdmin, duration, moment
from controlplane.nosql.admin.site import History, site
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
        "rotations",
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

    @display(description="rotations")
    def rotations(self, obj: Any) -> str:
        address = f"{reverse('admin:secrets_rotation_changelist')}?{urlencode({'q': obj.pk})}"
        return format_html('<a href="{}">Of this secret</a>', address)


def _lines(value: str) -> str:
    """Browsers send CRLF at the end of lines; a key file has LF."""
    return value.replace("\r\n", "\n")


site.register(SecretFacade, SecretAdmin)


# Of a rotation these are how its systems are configured, what their steps have noted, and who goes on with it.
_HIDDEN_OF_ROTATIONS = (
    *("entry", "rotator_config", "targets", "steps", "given_up"),
    *("revision", "owner", "owned_until", "due", "due_at"),
)


class RotationFacade(Facade, record=Rotation, hidden=_HIDDEN_OF_ROTATIONS):
    """A rotation as the admin shows it. Its key is the id of its secret and its entry, as `rotation_id` has them."""

    rotation_id = models.CharField(primary_key=True, max_length=110)
    listings = (BY_DUE, BY_SECRET)
    unique_lookups = {"rotation_id": rotation_find}  # noqa: RUF012 — declared as ClassVar in the base

    class Meta(Facade.Meta):
        verbose_name = "rotation"

    def __str__(self) -> str:
        return str(self.record.rotation_id)


class RotationAdmin(NosqlModelAdmin):
    """The pages of rotations. Users begin, stop and hasten them on the dashboard."""

    permissions = {"view": Permission.SECRETS_READ}  # noqa: RUF012
    list_display = ("rotation_id", "secret", "state", "step", moment("began_at"), "requested_by", "problem")
    list_filter = (FieldFilter.make("due", "state", [(OPEN, "not ended")]),)
    search_fields = ("secret_id",)
    search_help_text = "The complete id of a secret."
    details = (
        "rotation_id",
        "secret",
        "state",
        "step",
        "problem",
        "step_list",
        "rotator",
        "target_list",
        "old_version",
        "new_version",
        "requested_by",
        "stop_requested",
        "is_urgent",
        moment("began_at"),
        moment("activated_at"),
        moment("overlap_until"),
        moment("ended_at"),
        duration("began_at", "ended_at"),
        "page",
    )

    def list_note(self, request: HttpRequest) -> str:
        if request.GET.get("q") or request.GET.get("due"):
            return ""
        return (
            "The list has the secrets that something rotates, from Z to A, and of each the newest rotation first. "
            "For a secret that nothing rotates any more, search for its id."
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        """The rotations: behind them, the partition of a secret has its plan and its alarm."""
        return super().get_queryset(request).filter(entry__lte=AFTER_ROTATIONS)

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(secret_id=_secret_id(term))

    def history(self, obj: Any, cursor: str | None) -> History:
        """The events of its secret that name it."""
        target = f"secret:{obj.record.secret_id}"
        return self.admin_site.history_of([target], cursor, {"rotation": str(obj.record.entry)})

    @display(description="secret")
    def secret(self, obj: Any) -> str:
        address = reverse("admin:secrets_secret_change", args=[quote(obj.secret_id)])
        return format_html('<a href="{}">{}</a>', address, obj.secret_id)

    @display(description="step", empty_value="-")
    def step(self, obj: Any) -> str:
        steps = _steps(obj)
        number = step_next(steps)
        return "" if number is None else f"{steps[number].act} {steps[number].system}"

    @display(description="error", empty_value="-")
    def problem(self, obj: Any) -> str:
        """Why it is reverted, and what its next step waits for."""
        return ". ".join(text for text in (obj.record.reason, obj.record.message) if text)

    @display(description="steps")
    def step_list(self, obj: Any) -> str:
        return "\n".join(_step_text(step) for step in _steps(obj))

    @display(description="targets", empty_value="none")
    def target_list(self, obj: Any) -> str:
        return ", ".join(str(target["name"]) for target in obj.record.targets)

    @display(description="steps and acts")
    def page(self, obj: Any) -> str:
        return format_html('<a href="{}">On the dashboard</a>', reverse("dashboard:rotation", args=[obj.pk]))


def _secret_id(term: str) -> str:
    """The id of a secret as it is stored: the name in capital letters, the key of the scope in small ones."""
    name, point, key = term.partition(".")
    return f"{name.upper()}{point}{key.lower()}"


def _steps(obj: Any) -> list[RotationStep]:
    return [RotationStep.of_json(step) for step in obj.record.steps]


def _step_text(step: RotationStep) -> str:
    """A step with its last time and its message. What it has noted is not shown."""
    state, at = ("done", step.done_at) if step.done_at else ("failed", step.failed_at)
    if not at:
        state, at = ("begun", step.begun_at) if step.begun_at else ("to do", None)
    when = f" {at[:19].replace('T', ' ')}" if at else ""
    return f"{step.act} {step.system}: {state}{when}{f' ({step.message})' if step.message else ''}"


site.register(RotationFacade, RotationAdmin)
