"""Pipelines and their schedules in the admin."""

from typing import Any

from django import forms
from django.contrib.admin import display

from apps.accounts.policies import Permission
from apps.pipelines.models import SCOPE, SPACE, Pipeline, Schedule
from apps.pipelines.selectors import schedule_times
from apps.pipelines.services import (
    pipeline_delete,
    pipeline_save,
    schedule_change,
    schedule_create,
    schedule_delete,
    schedule_pause,
    schedule_resume,
)
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput, NotFound
from controlplane.nosql.admin.forms import NamesField, RecordForm, long_text, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.record import compact_json


class PipelineFacade(Facade, record=Pipeline, only_partition=SCOPE):
    """A pipeline as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "pipeline"

    def __str__(self) -> str:
        return str(self.record.name)


class PipelineForm(RecordForm):
    """The fields of a pipeline that a user can change."""

    revision_field = "revision"
    # The mistakes in a definition name its steps, which are no fields of this form.
    error_field = "definition"

    repository = text(help_text="An https, http, ssh, git or file URL, user@host:path, or an absolute path.")
    default_ref = text(label="Default ref", max_length=255, initial="main")
    definition = long_text(
        required=False,
        max_length=200_000,
        help_text="YAML. If it is empty, each job uses the .hybrid-ci.yml of the repository.",
    )
    labels = NamesField(
        help_text="Each job requires these beside the labels of the repository's file. Leave it empty if there is a "
        "definition above, which has its own labels."
    )
    badge = forms.BooleanField(
        required=False, label="Public badge", help_text="Everyone may see its badge, also without signing in."
    )
    revision = revision()

    def shown(self, name: str, facade: Any) -> Any:
        return super().shown("own_labels" if name == "labels" else name, facade)

    def write(self, actor: Actor) -> Pipeline:
        return self.saved(actor, name=self.instance.pk, revision=self.cleaned_data["revision"])

    def saved(self, actor: Actor, *, name: str, revision: int) -> Pipeline:
        """Save the pipeline. Browsers send CRLF at the end of lines, a definition has LF."""
        definition = self.cleaned_data["definition"].replace("\r\n", "\n")
        return pipeline_save(
            actor=actor,
            name=name,
            repository=self.cleaned_data["repository"],
            default_ref=self.cleaned_data["default_ref"],
            definition=definition if definition.strip() else None,
            labels=self.cleaned_data["labels"],
            badge=self.cleaned_data["badge"],
            revision=revision,
        ).pipeline


class PipelineAddForm(PipelineForm):
    """The fields of a new pipeline."""

    name = text(max_length=63, help_text="Lower-case letters, digits, - and _. It cannot be changed later.")
    revision = None  # type: ignore[assignment]

    field_order = ("name", "repository", "default_ref", "definition", "labels", "badge")

    def write(self, actor: Actor) -> Pipeline:
        try:
            return self.saved(actor, name=self.cleaned_data["name"], revision=0)
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error


class PipelineAdmin(NosqlModelAdmin):
    # The definition has up to 64 KB, of which the form may escape each byte.
    body_limit = 512 * 1024
    permissions = {  # noqa: RUF012
        "view": Permission.PIPELINES_READ,
        "add": Permission.PIPELINES_SAVE,
        "change": Permission.PIPELINES_SAVE,
        "delete": Permission.PIPELINES_DELETE,
    }
    history_kind = "pipeline"
    list_display = ("name", "repository", "default_ref", "where", "label_list", moment("updated_at"))
    search_fields = ("name",)
    search_help_text = "The beginning of a name."
    form = PipelineForm
    add_form = PipelineAddForm
    details = (
        "label_list",
        "source",
        "source_repository",
        "fetch_secret",
        moment("created_at"),
        moment("updated_at"),
    )
    delete_note = "Its schedules are deleted, too. Its jobs stay, and its queued jobs still run."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(name__startswith=term.lower())

    def record_delete(self, actor: Actor, obj: Any) -> None:
        pipeline_delete(actor=actor, name=obj.pk)

    @display(description="definition")
    def where(self, obj: Any) -> str:
        return "on the server" if obj.definition else "in the repository"

    @display(description="required labels", empty_value="none")
    def label_list(self, obj: Any) -> str:
        return ", ".join(obj.record.labels)


site.register(PipelineFacade, PipelineAdmin)


class ScheduleFacade(Facade, record=Schedule, only_partition=SPACE):
    """A schedule as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "schedule"

    def __str__(self) -> str:
        return str(self.record.schedule_id)


class ScheduleForm(RecordForm):
    """What a user can change of a schedule here. The parameters of its runs are changed on its page."""

    revision_field = "revision"

    cron = text(max_length=100, help_text="Minute, hour, day of the month, month, day of the week, as H 3 * * 1-5.")
    zone = text(label="Time zone", max_length=64, initial="UTC")
    git_ref = text(label="Git ref", required=False, max_length=255, help_text="Empty: the pipeline's default ref.")
    only_if_changed = forms.BooleanField(required=False, label="Only if something changed")
    revision = revision()

    def write(self, actor: Actor) -> Schedule:
        members = {name: self.cleaned_data[name] for name in ("cron", "zone", "git_ref", "only_if_changed")}
        return schedule_change(
            actor=actor, schedule_id=self.instance.pk, revision=self.cleaned_data["revision"], **members
        )


class ScheduleAddForm(ScheduleForm):
    """The fields of a new schedule."""

    pipeline = text(max_length=63)
    name = text(max_length=63, help_text="Lower-case letters, digits, - and _. It cannot be changed later.")
    revision = None  # type: ignore[assignment]

    field_order = ("pipeline", "name", "cron", "zone", "git_ref", "only_if_changed")

    def write(self, actor: Actor) -> Schedule:
        try:
            return schedule_create(actor=actor, **self.cleaned_data)
        except NotFound as error:
            raise InvalidInput.field("pipeline", error.message) from error
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error


class ScheduleAdmin(NosqlModelAdmin):
    permissions = {  # noqa: RUF012
        "view": Permission.PIPELINES_READ,
        "add": Permission.PIPELINES_SAVE,
        "change": Permission.PIPELINES_SAVE,
        "delete": Permission.PIPELINES_DELETE,
    }
    history_kind = "schedule"
    list_display = ("schedule_id", "cron", "zone", "next_time", "problem", "is_paused")
    search_fields = ("schedule_id",)
    search_help_text = "The beginning of a pipeline's name."
    form = ScheduleForm
    add_form = ScheduleAddForm
    details = (
        "schedule_id",
        "next_times",
        "parameter_text",
        "is_paused",
        moment("last_due_at"),
        "last_run_id",
        "problem",
        "created_by",
        moment("created_at"),
        "changed_by",
        moment("changed_at"),
    )
    delete_note = "The runs that it has started stay."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(schedule_id__startswith=term.lower())

    def record_delete(self, actor: Actor, obj: Any) -> None:
        schedule_delete(actor=actor, schedule_id=obj.pk)

    @act("Pause", permission=Permission.PIPELINES_SAVE, done="Paused")
    def pause(self, actor: Actor, obj: Any) -> None:
        schedule_pause(actor=actor, schedule_id=obj.pk)

    @act("Resume", permission=Permission.PIPELINES_SAVE, done="Resumed")
    def resume(self, actor: Actor, obj: Any) -> None:
        schedule_resume(actor=actor, schedule_id=obj.pk)

    @display(description="next", empty_value="-")
    def next_time(self, obj: Any) -> str:
        return _to_minute(obj.record.due_at or "")

    @display(description="next times", empty_value="-")
    def next_times(self, obj: Any) -> str:
        return ", ".join(_to_minute(time) for time in schedule_times(obj.record))

    @display(description="parameters", empty_value="-")
    def parameter_text(self, obj: Any) -> str:
        return compact_json(obj.record.parameters) if obj.record.parameters else ""

    @display(description="paused by", empty_value="-")
    def is_paused(self, obj: Any) -> str:
        return obj.record.paused_by or ""


def _to_minute(time: str) -> str:
    return time[:16].replace("T", " ")


site.register(ScheduleFacade, ScheduleAdmin)
