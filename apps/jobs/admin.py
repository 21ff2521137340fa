"""Jobs in the admin."""

from datetime import timedelta
from typing import Any

from django.contrib.admin import display
from django.urls import reverse
from django.utils.html import format_html

from apps.accounts.policies import Permission
from apps.audit.admin import history_entry
from apps.audit.selectors import audit_between
from apps.jobs.models import Job
from apps.jobs.selectors.jobs import BY_DAY, BY_OPEN, BY_OUTCOME
from apps.jobs.services import job_cancel, job_retry
from apps.jobs.states import Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import History, site
from controlplane.nosql.facade import Facade

# A job's last audit event is recorded a moment after the time that the job itself has.
_AFTERWARDS = timedelta(minutes=1)


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

    def history(self, obj: Any, cursor: str | None) -> History:  # noqa: ARG002 — the audit events of a job fit on one page
        """The audit events of the job, read between its creation and its end, since no index contains them."""
        last = obj.record.completed_at or clock.timestamp(clock.now())
        end = clock.timestamp(clock.parse_timestamp(last) + _AFTERWARDS)
        found = audit_between(target=f"job:{obj.pk}", first=obj.record.created_at, last=end)
        return History([history_entry(record) for record in reversed(found)])

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
