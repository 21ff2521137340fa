"""Jobs in the admin."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.contrib.admin import display
from django.urls import reverse
from django.utils.html import format_html

from apps.accounts.policies import Permission
from apps.audit.admin import act_of
from apps.audit.selectors import audit_between
from apps.jobs.models import OPEN, Job
from apps.jobs.selectors.overview import days_with_jobs
from apps.jobs.services import job_cancel, job_retry
from apps.jobs.states import FINAL, Status
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.admin.filters import FieldFilter
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import History, site
from controlplane.nosql.facade import Facade
from controlplane.nosql.listing import Listing

# No job is older than the product.
_FIRST_YEAR = 2026
# An act is recorded a moment after the time that the job itself bears.
_AFTERWARDS = timedelta(minutes=1)


def _open(asked: Mapping[str, Any]) -> list[str] | None:
    return [OPEN] if "status" in asked and asked["status"] not in FINAL else None


def _ended(asked: Mapping[str, Any]) -> list[str] | None:
    return [f"{asked['status']}#{day}" for day in _days(asked)] if asked.get("status") in FINAL else None


def _days(_asked: Mapping[str, Any]) -> list[str]:
    """The days on which jobs were created, newest first."""
    years: Sequence[int] = range(clock.now().year, _FIRST_YEAR - 1, -1)
    return [day.isoformat() for year in years for day in sorted(days_with_jobs(year=year), reverse=True)]


_HIDDEN = ("env", "definition", "open", "outcome", "started_by", "created_day")


class JobFacade(Facade, record=Job, hidden=_HIDDEN):
    """A job as the admin sees it. `env` is nobody's business but the job's own."""

    listings = (
        Listing(Job, Job.by_open, _open, filters={"status"}, descending=True),
        Listing(Job, Job.by_outcome, _ended, filters={"status"}, descending=True),
        Listing(Job, Job.by_day, _days, descending=True),
    )

    class Meta(Facade.Meta):
        verbose_name = "job"

    def __str__(self) -> str:
        return f"{self.record.pipeline} {self.record.git_ref} ({self.record.job_id})"


class JobAdmin(NosqlModelAdmin):
    """To be read only: what people do to jobs is cancel them and run them again."""

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
    search_help_text = "A whole id."
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

    def history(self, obj: Any, cursor: str | None) -> History:  # noqa: ARG002 — a job's life fits on one page
        """From the hours of the job's life, since acts on jobs are in no index."""
        last = obj.record.completed_at or clock.timestamp(clock.now())
        end = clock.timestamp(clock.parse_timestamp(last) + _AFTERWARDS)
        found = audit_between(target=f"job:{obj.pk}", first=obj.record.created_at, last=end)
        return History([act_of(record) for record in reversed(found)])

    @act(
        "Cancel",
        permission=Permission.JOBS_CANCEL,
        confirm="What waits will not run; what runs is stopped.",
        done="Cancelled",
    )
    def cancel(self, actor: Actor, obj: Any) -> None:
        job_cancel(actor=actor, job_id=obj.pk)

    @act("Run again", permission=Permission.JOBS_RETRY, done="Queued once more")
    def retry(self, actor: Actor, obj: Any) -> None:
        job_retry(actor=actor, job_id=obj.pk)


site.register(JobFacade, JobAdmin)
