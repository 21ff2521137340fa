"""Pipelines in the admin."""

from typing import Any

from django.contrib.admin import display

from apps.accounts.policies import Permission
from apps.pipelines.models import SCOPE, Pipeline
from apps.pipelines.services import pipeline_delete, pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.forms import RecordForm, long_text, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing


class PipelineFacade(Facade, record=Pipeline):
    """A pipeline as the admin shows it."""

    listings = (Listing(Pipeline, None, lambda _asked: [SCOPE]),)

    @classmethod
    def partition(cls, key: str) -> str:  # noqa: ARG003 — one partition holds them all
        return SCOPE

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
    revision = revision()

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
            revision=revision,
        ).pipeline


class PipelineAddForm(PipelineForm):
    """The fields of a new pipeline."""

    name = text(max_length=63, help_text="Lower-case letters, digits, - and _. It cannot be changed later.")
    revision = None  # type: ignore[assignment]

    field_order = ("name", "repository", "default_ref", "definition")

    def write(self, actor: Actor) -> Pipeline:
        try:
            return self.saved(actor, name=self.cleaned_data["name"], revision=0)
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error


class PipelineAdmin(NosqlModelAdmin):
    permissions = {  # noqa: RUF012
        "view": Permission.PIPELINES_READ,
        "add": Permission.PIPELINES_SAVE,
        "change": Permission.PIPELINES_SAVE,
        "delete": Permission.PIPELINES_DELETE,
    }
    history_kind = "pipeline"
    list_display = ("name", "repository", "default_ref", "where", moment("updated_at"))
    search_fields = ("name",)
    search_help_text = "The beginning of a name."
    form = PipelineForm
    add_form = PipelineAddForm
    details = ("label_list", moment("created_at"), moment("updated_at"))
    delete_note = "Its jobs stay, and its queued jobs still run."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(name__startswith=term.lower())

    def record_delete(self, actor: Actor, obj: Any) -> None:
        pipeline_delete(actor=actor, name=obj.pk)

    @display(description="definition")
    def where(self, obj: Any) -> str:
        return "on the server" if obj.definition else "in the repository"

    @display(description="labels", empty_value="none")
    def label_list(self, obj: Any) -> str:
        return ", ".join(obj.labels)


site.register(PipelineFacade, PipelineAdmin)
