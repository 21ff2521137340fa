"""Runs, jobs, environments and deployments in the admin."""

import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.admin import display
from django.contrib.admin.utils import quote
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from apps.accounts.policies import Permission
from apps.jobs.models import OPEN_RUNS, SPACE, Deployment, Environment, Job, Run
from apps.jobs.selectors.deployments import BY_ENVIRONMENT, BY_MONTH
from apps.jobs.selectors.environments import approver_lines, approvers_read
from apps.jobs.selectors.jobs import BY_DAY, BY_OPEN, BY_OUTCOME
from apps.jobs.selectors.runs import BY_DAY as RUNS_BY_DAY
from apps.jobs.selectors.runs import BY_OPEN as RUNS_BY_OPEN
from apps.jobs.selectors.runs import BY_PIPELINE as RUNS_BY_PIPELINE
from apps.jobs.selectors.runs import nodes_first, run_find, run_statuses
from apps.jobs.services import job_cancel, job_retry
from apps.jobs.services.environments import (
    MAX_APPROVALS,
    MAX_WAIT_SECONDS,
    environment_change,
    environment_create,
    environment_delete,
)
from apps.jobs.states import Status
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.freezes import freeze_line, freezes_read
from controlplane.lib.ids import ID_PATTERN
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.forms import LinesField, RecordForm, revision, text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, duration, moment
from controlplane.nosql.admin.site import History, site
from controlplane.nosql.facade import Facade

_HIDDEN = ("env", "definition", "open", "outcome", "started_by", "created_day")


class JobFacade(Facade, record=Job, hidden=_HIDDEN):
    """A job as the admin sees it. The admin does not show `env`, which may contain secrets."""

    listings = (BY_OPEN, BY_OUTCOME, BY_DAY)

    class Meta(Facade.Meta):
        verbose_name = "job"

    def __str__(self) -> str:
        return f"{self.record.pipeline} {self.record.git_ref} ({self.record.job_id})"


class JobAdmin(NosqlModelAdmin):
    """The pages of jobs. Users can read, cancel and retry jobs there."""

    permissions = {"view": Permission.JOBS_READ}  # noqa: RUF012
    history_kind = "job"
    list_display = (
        "job_id",
        "pipeline",
        "git_ref",
        "status",
        "requested_by",
        moment("created_at"),
        moment("completed_at"),
    )
    list_filter = (FieldFilter.make("status", "status", [(status.value, status.value) for status in Status]),)
    search_fields = ("job_id",)
    search_help_text = "The complete id of a job."
    details = (
        "job_id",
        "run",
        "pipeline",
        "git_ref",
        "commit",
        "status",
        "exit_code",
        "error_message",
        "label_list",
        "priority",
        "attempt",
        "lost_attempts",
        "agent",
        "requested_by",
        moment("created_at"),
        moment("assigned_at"),
        moment("started_at"),
        moment("completed_at"),
        "page",
    )

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(pk=term.lower())

    @display(description="run")
    def run(self, obj: Any) -> str:
        return format_html('<a href="{}">{}</a>', reverse("admin:jobs_run_change", args=[obj.run_id]), obj.run_id)

    @display(description="labels", empty_value="none")
    def label_list(self, obj: Any) -> str:
        return ", ".join(obj.labels)

    @display(description="agent", empty_value="-")
    def agent(self, obj: Any) -> str:
        if not obj.agent_id:
            return ""
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:agents_agent_change", args=[obj.agent_id]), obj.agent_id
        )

    @display(description="steps and log")
    def page(self, obj: Any) -> str:
        return format_html('<a href="{}">On the dashboard</a>', reverse("dashboard:job", args=[obj.pk]))

    @act(
        "Cancel",
        permission=Permission.JOBS_CANCEL,
        confirm="Queued jobs will not run, and running jobs will be stopped.",
        done="Cancelled",
    )
    def cancel(self, actor: Actor, obj: Any) -> None:
        job_cancel(actor=actor, job_id=obj.pk)

    @act("Run again", permission=Permission.JOBS_RETRY, done="Queued again")
    def retry(self, actor: Actor, obj: Any) -> None:
        job_retry(actor=actor, job_id=obj.pk)


site.register(JobFacade, JobAdmin)


# Of a run these are what it was given to keep, what its event and its repository say, and keys of indexes.
_HIDDEN_OF_RUNS = (
    *("env", "parameters", "trigger", "changed_since", "changed_paths", "trees"),
    *("part", "created_day", "open", "due", "due_at"),
)
# How many jobs a run's page names.
_JOBS_NAMED = 100


class RunFacade(Facade, record=Run, hidden=_HIDDEN_OF_RUNS):
    """A run as the admin shows it: without `env` and `parameters`, which may contain secrets.

    `status_seen` is its status as users see it.
    """

    run_id = models.CharField(primary_key=True, max_length=26)
    listings = (RUNS_BY_OPEN, RUNS_BY_PIPELINE, RUNS_BY_DAY)
    unique_lookups = {"run_id": run_find}  # noqa: RUF012 — declared as ClassVar in the base

    status_seen = ""

    class Meta(Facade.Meta):
        verbose_name = "run"

    def __str__(self) -> str:
        return f"{self.record.pipeline} {self.record.git_ref} ({self.record.run_id})"


class RunAdmin(NosqlModelAdmin):
    """The pages of runs. Users cancel and repeat runs on the dashboard."""

    permissions = {"view": Permission.JOBS_READ}  # noqa: RUF012
    list_display = (
        "run_id",
        "pipeline",
        "git_ref",
        "event",
        "status_shown",
        "requested_by",
        moment("created_at"),
        duration("created_at", "completed_at"),
    )
    list_filter = (FieldFilter.make("open", "status", [(OPEN_RUNS, "not ended")]),)
    search_fields = ("run_id", "pipeline")
    search_help_text = "The complete id of a run, or the name of a pipeline."
    details = (
        "run_id",
        "pipeline_link",
        "git_ref",
        "commit",
        "event",
        "pull_request",
        "status_shown",
        "cancel_requested",
        "nothing_to_do",
        "deploys_to",
        "priority",
        "label_list",
        "requested_by",
        moment("allowed_at"),
        "allowed_by",
        moment("created_at"),
        moment("completed_at"),
        duration("created_at", "completed_at"),
        "job_links",
        "page",
    )

    def search(self, queryset: Any, term: str) -> Any:
        term = term.lower()
        return queryset.filter(pk=term) if re.fullmatch(ID_PATTERN, term) else queryset.filter(pipeline=term)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        _statuses_read(found.result_list)
        return found

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            _statuses_read([found])
        return found

    def history(self, obj: Any, cursor: str | None) -> History:
        """Its events, and those of its first job, which begin with the creation of both."""
        return self.admin_site.history_of([f"run:{obj.pk}", f"job:{obj.record.job_id}"], cursor, {})

    @display(description="status")
    def status_shown(self, obj: Any) -> str:
        return str(obj.status_seen)

    @display(description="pipeline")
    def pipeline_link(self, obj: Any) -> str:
        address = reverse("admin:pipelines_pipeline_change", args=[quote(obj.pipeline)])
        return format_html('<a href="{}">{}</a>', address, obj.pipeline)

    @display(description="required labels", empty_value="none")
    def label_list(self, obj: Any) -> str:
        return ", ".join(obj.record.labels)

    @display(description="jobs")
    def job_links(self, obj: Any) -> str:
        """The first jobs of the run by their names, or the only one."""
        nodes = nodes_first(obj.pk, limit=_JOBS_NAMED) if obj.record.jobs else []
        named = [(node.job_id, node.name) for node in nodes] or [(obj.record.job_id, obj.record.job_id)]
        links = ((reverse("admin:jobs_job_change", args=[job_id]), name) for job_id, name in named)
        more = int(obj.record.jobs or 1) - len(named)
        rest = f" and {more} more, which are on the dashboard" if more > 0 else ""
        return format_html("{}{}", format_html_join(", ", '<a href="{}">{}</a>', links), rest)

    @display(description="graph and results")
    def page(self, obj: Any) -> str:
        return format_html('<a href="{}">On the dashboard</a>', reverse("dashboard:run", args=[obj.pk]))


def _statuses_read(runs: Iterable[Any]) -> None:
    """Set the statuses of runs that users see: one call if some have not ended."""
    statuses = run_statuses([run.record for run in runs])
    for run in runs:
        run.status_seen = statuses[run.pk].value


site.register(RunFacade, RunAdmin)


class EnvironmentFacade(Facade, record=Environment, only_partition=SPACE, hidden=("freezes", "holders")):
    """An environment as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "environment"

    def __str__(self) -> str:
        return str(self.record.place)


class EnvironmentForm(RecordForm):
    """What an admin can change of an environment: all but its name."""

    revision_field = "revision"
    shown_at = {"approver_roles": "approvers", "approver_ids": "approvers", "freezes": "freezes"}  # noqa: RUF012

    url = text(label="Address", required=False, max_length=500, help_text="Where people see what is live.")
    allowed_refs = LinesField(
        label="Allowed refs",
        help_text="One pattern per line, as main, release/* or refs/tags/v*. If empty, all refs may be deployed.",
    )
    approvals = forms.IntegerField(
        min_value=0, max_value=MAX_APPROVALS, initial=0, help_text="How many people must approve."
    )
    approvers = LinesField(
        label="Who may approve", help_text="One role (operator, admin, …) or e-mail address of a user per line."
    )
    requester_may_not_approve = forms.BooleanField(
        required=False,
        label="Another person must approve",
        help_text="Not the one who started the run, or ran the job again.",
    )
    wait_seconds = forms.IntegerField(
        label="Wait timer (seconds)",
        min_value=0,
        max_value=MAX_WAIT_SECONDS,
        initial=0,
        help_text="For so many seconds, each deployment waits once it is ready.",
    )
    freezes = LinesField(
        help_text="When nothing is deployed, one per line: FRI 16:00 to MON 08:00 Europe/Berlin, or "
        "2026-12-20T18:00 to 2027-01-04T08:00 Europe/Berlin: holidays."
    )
    revision = revision()

    def shown(self, name: str, facade: Any) -> Any:
        environment = facade.record
        if name == "approvers":
            return approver_lines(environment)
        if name == "freezes":
            return [freeze_line(one) for one in environment.freezes or ()]
        if name == "allowed_refs":
            return [str(pattern) for pattern in environment.allowed_refs]
        return super().shown(name, facade)

    @property
    def members(self) -> dict[str, Any]:
        """What the admin says of the environment. Raises InvalidInput (field "approvers" or "freezes")."""
        given = self.cleaned_data
        roles, ids = approvers_read(given["approvers"], field="approvers")
        names = ("allowed_refs", "approvals", "requester_may_not_approve", "wait_seconds")
        return {
            **{name: given[name] for name in names},
            "url": given["url"] or None,
            "approver_roles": roles,
            "approver_ids": ids,
            "freezes": freezes_read(given["freezes"], field="freezes"),
        }

    def write(self, actor: Actor) -> Environment:
        seen = self.cleaned_data["revision"]
        return environment_change(actor=actor, name=self.instance.pk, revision=seen, **self.members)


class EnvironmentAddForm(EnvironmentForm):
    """The fields of a new environment."""

    name = text(max_length=55, help_text="As `environment:` of a job names it. It cannot be changed later.")
    revision = None  # type: ignore[assignment]

    field_order = (
        "name",
        "url",
        "allowed_refs",
        "approvals",
        "approvers",
        "requester_may_not_approve",
        "wait_seconds",
        "freezes",
    )

    def write(self, actor: Actor) -> Environment:
        try:
            return environment_create(actor=actor, name=self.cleaned_data["name"], **self.members)
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error


class EnvironmentAdmin(NosqlModelAdmin):
    """The pages of environments."""

    permissions = {  # noqa: RUF012
        "view": Permission.PIPELINES_READ,
        "add": Permission.ENVIRONMENTS_MANAGE,
        "change": Permission.ENVIRONMENTS_MANAGE,
        "delete": Permission.ENVIRONMENTS_MANAGE,
    }
    history_kind = "environment"
    list_display = ("place", "approvals", "wait_seconds", "busy_with", "is_deleted")
    search_fields = ("place",)
    search_help_text = "The beginning of its name."
    form = EnvironmentForm
    add_form = EnvironmentAddForm
    details = (
        "place",
        "ref_list",
        "approver_list",
        "freeze_list",
        "busy_with",
        "is_deleted",
        "created_by",
        moment("created_at"),
        "changed_by",
        moment("changed_at"),
        "page",
    )
    delete_note = "Jobs that deploy to it fail until it is made again, also those that wait now."

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(place__startswith=term)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What the form has is not shown beside it a second time."""
        fields = super().get_fields(request, obj)
        if obj is None or not self.has_change_permission(request, obj):
            return fields
        return [field for field in fields if field not in ("ref_list", "approver_list", "freeze_list")]

    def record_delete(self, actor: Actor, obj: Any) -> None:
        environment_delete(actor=actor, name=obj.pk)

    @display(description="allowed refs", empty_value="all")
    def ref_list(self, obj: Any) -> str:
        return ", ".join(obj.record.allowed_refs)

    @display(description="approvers", empty_value="none")
    def approver_list(self, obj: Any) -> str:
        return ", ".join(approver_lines(obj.record))

    @display(description="freezes", empty_value="none")
    def freeze_list(self, obj: Any) -> str:
        return ", ".join(map(freeze_line, obj.record.freezes or ()))

    @display(description="in progress", empty_value="-")
    def busy_with(self, obj: Any) -> str:
        return ", ".join(sorted(obj.record.holders or ()))

    @display(description="deleted", empty_value="-")
    def is_deleted(self, obj: Any) -> str:
        return (obj.record.deleted_at or "")[:16].replace("T", " ")

    @display(description="what is live")
    def page(self, obj: Any) -> str:
        return format_html('<a href="{}">On the dashboard</a>', reverse("dashboard:environment", args=[obj.pk]))


site.register(EnvironmentFacade, EnvironmentAdmin)


class DeploymentFacade(Facade, record=Deployment, hidden=("created_month", "approvals", "rejection")):
    """A deployment as the admin shows it."""

    listings = (BY_ENVIRONMENT, BY_MONTH)

    class Meta(Facade.Meta):
        verbose_name = "deployment"

    def __str__(self) -> str:
        return f"{self.record.pipeline} to {self.record.environment} ({self.record.deployment_id})"


class DeploymentAdmin(NosqlModelAdmin):
    """The pages of deployments. People decide about them on the dashboard."""

    permissions = {"view": Permission.JOBS_READ}  # noqa: RUF012
    history_kind = "deployment"
    list_display = (
        "deployment_id",
        "environment",
        "pipeline",
        "status",
        "commit",
        "requested_by",
        moment("created_at"),
    )
    search_fields = ("deployment_id",)
    search_help_text = "The complete id of a deployment, which is that of its job."
    details = (
        "deployment_id",
        "environment",
        "pipeline",
        "git_ref",
        "commit",
        "status",
        "reason",
        "requested_by",
        "approval_list",
        "rejected_by",
        "repeats",
        "before_id",
        moment("created_at"),
        moment("opened_at"),
        moment("ended_at"),
        "page",
    )

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(pk=term.lower())

    @display(description="approved by", empty_value="-")
    def approval_list(self, obj: Any) -> str:
        return ", ".join(str(one["by"]) for one in obj.record.approvals or ())

    @display(description="rejected by", empty_value="-")
    def rejected_by(self, obj: Any) -> str:
        return str((obj.record.rejection or {}).get("by") or "")

    @display(description="gates")
    def page(self, obj: Any) -> str:
        return format_html('<a href="{}">On the dashboard</a>', reverse("dashboard:deployment", args=[obj.pk]))


site.register(DeploymentFacade, DeploymentAdmin)
