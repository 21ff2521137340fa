"""The pages of runs: the list, one run with the graph of its jobs, and the forms that cancel it and run it again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.graph import Graph, run_graph
from apps.dashboard.pages import BUSY_SECONDS, is_fragment, page, refresh_seconds, shared_context, show
from apps.dashboard.selectors.failures import failures_shared
from apps.dashboard.views.artifacts import artifact_context
from apps.dashboard.views.log import WAITING_SECONDS
from apps.dashboard.views.story import needs_a_person
from apps.jobs.selectors import (
    RunJob,
    RunView,
    Waiting,
    first_waits,
    job_steps,
    job_waits,
    run_get,
    run_jobs,
    run_list,
    run_tests,
    run_view,
    run_waits,
)
from apps.jobs.selectors.artifacts import run_artifacts
from apps.jobs.selectors.run_checks import run_checks
from apps.jobs.services import run_allow, run_cancel, run_retry
from apps.jobs.states import FINAL, LEASED, RUN_FINAL, Event, RunStatus, Status, run_status_of
from apps.pipelines.definitions import FIRST_NODE
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.lib.frozen import frozen

PAGE_SIZE = 25
# How many artifacts of a run its page names.
ARTIFACTS = 100
# How many rows the list of a run's jobs has: those first that a person has to look at.
LISTED_JOBS = 100
# So many matrices can be unfolded at the same time. Every link of the page names them.
OPEN_MATRICES = 10
# For so many sets of labels, the page says what queued jobs wait for.
LABEL_SETS = 3
# A run with more jobs is refreshed less often, by a second for each of so many.
_JOBS_A_SECOND = 50

_FAILED = frozenset({Status.FAILED, Status.TIMED_OUT})
# What a list names first, if it cannot name all.
_ORDER = (Status.FAILED, Status.TIMED_OUT, Status.RUNNING, Status.ASSIGNED, Status.QUEUED, Status.WAITING)


@frozen
class JobRow:
    """A row of the list of jobs: a job, or a folded matrix with all of its cells.

    `waits` says why the job waits, or the first of the cells that do. With `is_allowed`, a failure does not count.
    """

    name: str
    jobs: Sequence[RunJob]
    waits: Waiting | None = None
    is_allowed: bool = False

    @property
    def job(self) -> RunJob:
        return self.jobs[0]

    @property
    def is_matrix(self) -> bool:
        return len(self.jobs) > 1

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many cells have each status, the most frequent one first."""
        return Counter(job.status.value for job in self.jobs).most_common()


@frozen
class Shown:
    """What the page shows of a run, and what the reader has chosen in it: unfolded matrices, and a job beside."""

    view: RunView
    jobs: Sequence[RunJob]
    opened: Sequence[str] = field(default_factory=list)
    chosen: str = ""

    @property
    def status(self) -> RunStatus:
        """The status of the run. Before its graph is complete, it is that of its first job."""
        status = RunStatus(self.view.run.status)
        first = next((job for job in self.jobs if job.record.job_id == self.view.run.job_id), None)
        return run_status_of(first.status) if first and status == RunStatus.QUEUED else status

    @property
    def is_cancelling(self) -> bool:
        return bool(self.view.run.cancel_requested) and self.view.run.status not in RUN_FINAL

    @property
    def counts(self) -> Mapping[str, int]:
        """How many jobs have each status, without the one that reads the file."""
        return Counter(job.status.value for job in self.jobs if job.name != FIRST_NODE)

    @property
    def ended(self) -> int:
        return sum(number for status, number in self.counts.items() if status in FINAL)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def failed(self) -> list[RunJob]:
        return [job for job in self.jobs if job.status in _FAILED]

    @property
    def unfinished(self) -> bool:
        """Whether some jobs would run again if the failed ones are run again."""
        return any(job.status in _FAILED | {Status.CANCELLED} for job in self.jobs)

    @property
    def commit(self) -> str | None:
        """The commit of the run, or the one that its only job has found."""
        return self.view.run.commit or (self.jobs[0].record.commit if self.jobs else None)

    @property
    def completed_at(self) -> str | None:
        """When the only job of a run has ended, before the run's own row says so."""
        return self.jobs[0].record.completed_at if self.jobs and not self.view.jobs else None

    @property
    def saved_seconds(self) -> int:
        """How long the jobs took whose results this run has taken."""
        return sum(int(job.record.saved_seconds or 0) for job in self.jobs)

    @property
    def reused(self) -> int:
        return sum(bool(job.record.reused_from) for job in self.jobs)

    @property
    def job(self) -> RunJob | None:
        """The job beside the graph; the only one of a run without a graph."""
        if not self.view.jobs:
            return self.jobs[0] if self.jobs else None
        return next((job for job in self.jobs if job.name == self.chosen), None)

    @cached_property
    def allowed(self) -> frozenset[str]:
        """The jobs whose failure does not count."""
        return frozenset(job.name for job in self.view.jobs if job.allow_failure)

    @cached_property
    def matrices(self) -> set[str]:
        """The names of the jobs that are matrices."""
        return {name for name, cells in Counter(job.job for job in self.jobs).items() if cells > 1}

    def needs_of(self, job: RunJob) -> list[tuple[str, str]]:
        """What the job needs, each with the query of an address that shows it: jobs, and matrices as a whole."""
        named = {other.name: other.job for other in self.jobs}
        needs: dict[str, str] = {}
        for name in job.needs:
            whole = named.get(name, name)
            if whole in self.matrices:
                needs[whole] = self.query(opened=[*{*self.opened, whole}])
            else:
                needs[name] = self.query(chosen=name)
        return list(needs.items())

    def query(self, *, opened: Sequence[str] | None = None, chosen: str | None = None) -> str:
        """The query of an address that shows these matrices unfolded and this job beside."""
        pairs = [("open", name) for name in (self.opened if opened is None else opened)]
        chosen = self.chosen if chosen is None else chosen
        return urlencode([*pairs, ("job", chosen)] if chosen else pairs)

    def toggle(self, name: str) -> str:
        """The query of an address that unfolds the matrix, or folds it if it is unfolded."""
        others = [other for other in self.opened if other != name]
        return self.query(opened=others if name in self.opened else [*others, name])


@page(Permission.JOBS_READ)
def run_list_page(request: HttpRequest) -> HttpResponse:
    """Runs, newest first, filtered by pipeline, branch, status, event and who started them."""
    chosen = {
        name: request.GET.get(name, "").strip() for name in ("pipeline", "branch", "status", "event", "requested_by")
    }
    cursor = request.GET.get("cursor") or None
    found = run_list(
        limit=PAGE_SIZE,
        cursor=cursor,
        pipeline=chosen["pipeline"] or None,
        branch=chosen["branch"] or None,
        status=_one_of(RunStatus, "status", chosen["status"]),
        event=_one_of(Event, "event", chosen["event"]),
        requested_by=chosen["requested_by"] or None,
    )
    query = request.GET.copy()
    query.pop("cursor", None)
    following = query.copy()
    if found.next_cursor:
        following["cursor"] = found.next_cursor
    filtered = any(chosen.values())
    busy = any(status not in RUN_FINAL for status in found.statuses.values())
    return show(
        request,
        "runs",
        {
            "section": "runs",
            "rows": [(run, found.statuses[run.run_id]) for run in found.runs],
            "chosen": chosen,
            "filtered": filtered,
            "statuses": list(RunStatus),
            "events": list(Event),
            "cursor": cursor,
            "first_query": query.urlencode(),
            "next_query": following.urlencode() if found.next_cursor else "",
            "seconds": refresh_seconds(busy=busy and not filtered),
        },
    )


def _one_of(kind: Any, name: str, text: str) -> Any:
    try:
        return kind(text) if text else None
    except ValueError:
        raise InvalidInput.field(name, f"must be one of {', '.join(kind)}") from None


@page(Permission.JOBS_READ)
def run_page(request: HttpRequest, run_id: str) -> HttpResponse:
    """One run: its graph, the list of its jobs, the job that the reader has chosen, tests and artifacts.

    Costs one query, a call for each 100 jobs, and little more.
    """
    view = run_view(run_id)
    jobs = run_jobs(view)
    names, chosen = {job.job for job in jobs}, request.GET.get("job", "")
    opened = [name for name in dict.fromkeys(request.GET.getlist("open")) if name in names][:OPEN_MATRICES]
    shown = Shown(view, jobs, opened, chosen if any(job.name == chosen for job in jobs) else "")
    context = {**shared_context(request), **_context(shown), "section": "runs"}
    if is_fragment(request):
        context["with_head"] = request.GET.get("seen") != context["seen"]
        return render(request, "dashboard/run_live.html", context)
    return render(request, "dashboard/run.html", {**context, **_results(request, shown)})


def _context(shown: Shown) -> dict[str, Any]:
    waits = {**run_waits(shown.view), **first_waits(shown.jobs), **_queued(shown)}
    status = shown.status
    rows, left_out = _rows(shown, waits)
    live = status not in RUN_FINAL
    return {
        "shown": shown,
        "run": shown.view.run,
        "checks": run_checks(shown.view.run),
        "status": status,
        "counts": [(name.value, shown.counts[name]) for name in Status if shown.counts.get(name)],
        "graph": _graph(shown),
        "rows": rows,
        "left_out": left_out,
        "live": live,
        "stuck": _stuck(shown, waits),
        "seconds": _seconds(shown),
        # The head is only sent again when one of these has changed, so that buttons do not move under the pointer.
        "seen": f"{status}.{shown.is_cancelling}.{shown.unfinished}.{shown.reused}",
        **_beside(shown, waits),
    }


def _seconds(shown: Shown) -> int:
    """Seconds until the page refreshes again: more of them if no agent has a job, and if there are many jobs."""
    busy = any(job.status in LEASED for job in shown.jobs)
    return (BUSY_SECONDS if busy else WAITING_SECONDS) + len(shown.jobs) // _JOBS_A_SECOND


def _graph(shown: Shown) -> Graph | None:
    return run_graph(shown.jobs, opened=shown.opened) if shown.view.jobs else None


def _rows(shown: Shown, waits: Mapping[str, Waiting]) -> tuple[list[JobRow], int]:
    """The rows of the list of jobs, and how many are left out since they are too many."""
    folded = shown.matrices - {*shown.opened}
    cells: dict[str, list[RunJob]] = {}
    for job in shown.jobs:
        cells.setdefault(job.job if job.job in folded else f"={job.name}", []).append(job)
    rows = [
        JobRow(
            jobs[0].job if len(jobs) > 1 else jobs[0].name,
            jobs,
            _wait(jobs, waits),
            is_allowed=jobs[0].name in shown.allowed,
        )
        for jobs in cells.values()
    ]
    if len(rows) > LISTED_JOBS:
        rank = {status: place for place, status in enumerate(_ORDER)}
        rows.sort(key=lambda row: min(rank.get(job.status, len(rank)) for job in row.jobs))
    return rows[:LISTED_JOBS], len(rows[LISTED_JOBS:])


def _wait(jobs: Sequence[RunJob], waits: Mapping[str, Waiting]) -> Waiting | None:
    """What the first of these that waits is waiting for."""
    return next((waits[job.name] for job in jobs if job.name in waits), None)


def _queued(shown: Shown) -> dict[str, Waiting]:
    """What queued jobs wait for: the first one of some label sets, and all those for which a person has to act."""
    waits: dict[str, Waiting] = {}
    by_labels: dict[tuple[str, ...], list[RunJob]] = {}
    for job in shown.jobs:
        if job.status == Status.QUEUED:
            by_labels.setdefault(tuple(job.record.labels), []).append(job)
    for jobs in [*by_labels.values()][:LABEL_SETS]:
        waiting = job_waits(jobs[0].record)
        if waiting is not None:
            waits |= {job.name: waiting for job in (jobs if needs_a_person(waiting) else jobs[:1])}
    return waits


def _stuck(shown: Shown, waits: Mapping[str, Waiting]) -> Waiting | None:
    """Why no agent has a job of the run or will get one, if a person has to do something about it."""
    if any(job.status in LEASED for job in shown.jobs):
        return None
    queued = [waits[job.name] for job in shown.jobs if job.status == Status.QUEUED and job.name in waits]
    return queued[0] if queued and all(map(needs_a_person, queued)) else None


def _beside(shown: Shown, waits: Mapping[str, Waiting]) -> dict[str, Any]:
    """What the page shows about the chosen job beside the graph."""
    job = shown.job
    if job is None:
        return {"beside": None}
    waiting = waits.get(job.name) or (job_waits(job.record) if job.status == Status.QUEUED else None)
    return {
        "beside": job,
        "needs": shown.needs_of(job),
        "steps": job_steps(job.record),
        "waiting": waiting,
        "needs_a_person": waiting is not None and needs_a_person(waiting),
    }


@page(Permission.JOBS_READ)
def run_results(request: HttpRequest, run_id: str) -> HttpResponse:
    """The tests and the artifacts of a run: a part of its page that is requested again when a job has ended."""
    run = run_get(run_id)
    context = {**shared_context(request), **_results_of(request, run), "section": "runs"}
    return render(request, "dashboard/run_results.html", context)


def _results(request: HttpRequest, shown: Shown) -> dict[str, Any]:
    """The tests and artifacts of a run, which has none before a job has started."""
    if not any(job.record.attempt or job.record.reused_from for job in shown.jobs):
        return {"tests": [], **artifact_context(request, [])}
    return _results_of(request, shown.view.run)


def _results_of(request: HttpRequest, run: Any) -> dict[str, Any]:
    found = run_artifacts(run.run_id, limit=ARTIFACTS)
    tests = [one for one in run_tests(pipeline=run.pipeline, run_id=run.run_id) if not one.is_empty]
    return {
        "run": run,
        "tests": tests,
        "failures": failures_shared(tests),
        "is_cut": any(one.cut for one in tests),
        **artifact_context(request, found.artifacts, more=found.next_cursor is not None),
    }


@page(Permission.JOBS_CANCEL, "POST")
def run_cancel_action(request: HttpRequest, run_id: str) -> HttpResponse:
    """Cancel all jobs of the run and redirect to its page."""
    try:
        run_cancel(actor=request_actor(request), run_id=run_id)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "Cancelled. Agents that run a job of it stop that within seconds.")
    return redirect("dashboard:run", run_id=run_id)


@page(Permission.SECRETS_MANAGE, "POST")
def run_allow_action(request: HttpRequest, run_id: str) -> HttpResponse:
    """Let the run of a fork have secrets and deploy, run what has ended again, and redirect to its page."""
    try:
        run_allow(actor=request_actor(request), run_id=run_id)
        run_retry(actor=request_actor(request), run_id=run_id, everything=True)
    except Conflict as error:
        if error.code not in (ErrorCode.JOB_NOT_FINISHED, ErrorCode.RUN_NOTHING_TO_RETRY):
            messages.error(request, error.message)
            return redirect("dashboard:run", run_id=run_id)
    messages.success(request, "This run may have secrets now, and deploy. The next push is another run.")
    return redirect("dashboard:run", run_id=run_id)


@page(Permission.JOBS_RETRY, "POST")
def run_retry_action(request: HttpRequest, run_id: str) -> HttpResponse:
    """Run the failed and cancelled jobs again, or with `everything` all, and redirect to the run's page."""
    everything = request.POST.get("everything") == "true"
    try:
        run_retry(actor=request_actor(request), run_id=run_id, everything=everything)
    except Conflict as error:
        messages.error(request, error.message)
    return redirect("dashboard:run", run_id=run_id)
