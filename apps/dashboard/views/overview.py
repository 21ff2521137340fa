"""The first page: the health of the fleet, and the jobs that run and wait."""

from collections import Counter

from django.http import HttpRequest, HttpResponse

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.agents.selectors import fleet_counts
from apps.audit.selectors.overview import events_today
from apps.dashboard.chart import outcome_chart
from apps.dashboard.pages import page, refresh_seconds, show
from apps.jobs.selectors import job_overview, run_list
from apps.jobs.selectors.deployments import deployment_last
from apps.secrets.selectors.rotations import rotation_next
from controlplane.lib import clock

CHART_DAYS = 14
RECENT_RUNS = 8
# The overview names only so many running and waiting jobs; the list of jobs has them all.
LISTED_JOBS = 10


@page(Permission.JOBS_READ)
def overview(request: HttpRequest) -> HttpResponse:
    """The overview. Its number of reads does not grow with the number of jobs."""
    jobs = job_overview(days=CHART_DAYS)
    fleet = Counter[str]()
    for statuses in fleet_counts().values():
        fleet.update(statuses)
    del fleet["retired"]
    busy = bool(jobs.running or jobs.waiting)
    return show(
        request,
        "overview",
        {
            "section": "overview",
            "jobs": jobs,
            "running": jobs.running[:LISTED_JOBS],
            # The job that has waited longest comes first.
            "waiting": jobs.waiting[: -LISTED_JOBS - 1 : -1],
            "healthy": fleet["healthy"],
            "agents": fleet.total(),
            "fleet": fleet,
            "agent_states": [(status, fleet[status]) for status in ("unhealthy", "dead", "draining")],
            "chart": outcome_chart(jobs.outcomes),
            "seconds": refresh_seconds(busy=busy),
        },
    )


@page(Permission.JOBS_READ)
def latest(request: HttpRequest) -> HttpResponse:
    """The last deployment, the next rotation and today's audit events: a part of the overview that loads later."""
    permissions = request_actor(request).permissions
    context = {
        "section": "overview",
        "is_loaded": True,
        "deployment": deployment_last(),
        "rotation": rotation_next() if Permission.SECRETS_READ in permissions else None,
        "recorded": events_today() if Permission.AUDIT_READ in permissions else None,
        "today": f"{clock.now():%Y-%m-%d}",
    }
    return show(request, "latest", context)


@page(Permission.JOBS_READ)
def recent(request: HttpRequest) -> HttpResponse:
    """The newest runs: a part of the overview that loads later, so that the rest does not wait for it."""
    found = run_list(limit=RECENT_RUNS)
    rows = [(run, found.statuses[run.run_id]) for run in found.runs]
    return show(request, "recent", {"section": "overview", "rows": rows})
