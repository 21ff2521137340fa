"""Showing the checks of a run at its commit, when the outbox says that they may have changed.

This compares what the run is now with what was sent last, and sends the difference. So it does not matter how many
changes came together, in which order, or how often one comes: the last one that is worked off leaves the commit right.
"""

import time
from collections.abc import Iterator, Mapping
from itertools import chain

from django.conf import settings

from apps.jobs.models import FILE_NODE, Job
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.reports import JobTests, job_tests
from apps.jobs.selectors.runs import RunView, node_jobs, run_view
from apps.jobs.services.check_contents import CheckState, job_check, job_state, run_check, run_state
from apps.jobs.states import FINAL, Status
from apps.notifications.selectors.outbox import OutboxItem
from apps.sources.selectors import connection_find
from apps.sources.selectors.checks import SentCheck, checks_sent
from apps.sources.services.checks import Check, check_show, checks_are_shown
from controlplane.lib.errors import NotFound, RetryLater

# So many jobs of a run have a check of their own: GitHub limits how many requests may create something.
MOST_CHECKS = 100
# An item of the outbox must be worked off in half a minute, and a call may take ten seconds. What is left follows.
_SECONDS = 5.0


def checks_send(item: OutboxItem) -> None:
    """Bring the checks of the run of this item to what the run is now.

    Raises Unavailable; and RetryLater if the provider wants to be asked later, or if there is more to send than one
    call may take.
    """
    try:
        view = run_view(item.fact["run_id"])
    except NotFound:
        return
    run = view.run
    connection = connection_find(str(run.checks_of)) if run.checks_key else None
    if connection is None or not checks_are_shown(connection):
        # It was deleted since the run began.
        return
    if run.jobs and not view.is_complete:
        # It was extended while it was read.
        raise RetryLater("The run is being extended.", seconds=1)
    known = checks_sent(str(run.checks_of), str(run.checks_repository), str(run.checks_commit))
    until = time.monotonic() + _SECONDS
    for check, turn in _changed(view, known):
        if time.monotonic() >= until:
            raise RetryLater("The run has more checks to show.", seconds=0)
        check_show(connection, check, run_id=str(run.run_id), turn=turn, known=known)


def _changed(view: RunView, known: Mapping[str, SentCheck]) -> Iterator[tuple[Check, int]]:
    """The checks that are not shown as they are now, each with its turn, in the order in which they are to be sent.

    That of the run comes first, since it is the one that is waited for.
    """
    return chain(_of_run(view, known), _replaced(view, known), _of_jobs(view, known))


def _of_run(view: RunView, known: Mapping[str, SentCheck]) -> Iterator[tuple[Check, int]]:
    run = view.run
    only = None if run.jobs else Job.get(run.job_id, consistent_read=True)
    state, turn = run_state(run, only), int(run.revision)
    if _is_shown(known, str(run.run_id), state, turn):
        return
    # The job that has read the file matters only if it has failed.
    graph = [job for job in view.jobs if job.name != FILE_NODE or view.states[job.name] != Status.COMPLETED]
    tests = _tests(only) if only is not None else None
    url = settings.PUBLIC_URL
    yield run_check(run, state=state, only=only, jobs=graph, nodes=view.nodes, tests=tests, base_url=url), turn


def _of_jobs(view: RunView, known: Mapping[str, SentCheck]) -> Iterator[tuple[Check, int]]:
    shown = [job for job in view.jobs if job.name != FILE_NODE][:MOST_CHECKS]
    wanted = {job.name: job for job in shown if not _end_is_shown(view, job, known)}
    records = node_jobs(view, names=wanted)
    for name, record in records.items():
        job = wanted[name]
        environment = str(record.environment) if record.environment else None
        state = job_state(Status(record.status), allow_failure=job.allow_failure, environment=environment)
        if not _is_shown(known, str(record.job_id), state):
            yield _job_check(view, record, state, view.nodes[name].reason), 0


def _end_is_shown(view: RunView, job: GraphJob, known: Mapping[str, SentCheck]) -> bool:
    """Whether the job has ended and its check says so. Its node knows that; whether it runs, only its record does."""
    node = view.nodes[job.name]
    status = Status(node.state)
    return status in FINAL and _is_shown(known, str(node.job_id), job_state(status, allow_failure=job.allow_failure))


def _replaced(view: RunView, known: Mapping[str, SentCheck]) -> Iterator[tuple[Check, int]]:
    """The checks of jobs that were run again before their end was shown."""
    current = {str(view.run.run_id), *(str(node.job_id) for node in view.nodes.values())}
    wanted = [
        external_id
        for external_id, sent in known.items()
        if sent.run_id == view.run.run_id and not sent.has_ended and external_id not in current
    ]
    allowed = {job.name for job in view.jobs if job.allow_failure}
    for record in Job.find_many(wanted):
        if record.status in FINAL:
            state = job_state(Status(record.status), allow_failure=record.node in allowed)
            yield _job_check(view, record, state, None), 0


def _job_check(view: RunView, record: Job, state: CheckState, reason: str | None) -> Check:
    return job_check(view.run, record, state=state, reason=reason, tests=_tests(record), base_url=settings.PUBLIC_URL)


def _tests(job: Job) -> JobTests | None:
    """The test reports of a job that has run. They are there before its end."""
    return job_tests(job) if job.status in FINAL and job.started_at else None


def _is_shown(known: Mapping[str, SentCheck], external_id: str, state: CheckState, turn: int = 0) -> bool:
    sent = known.get(external_id)
    return sent is not None and sent.shows(state.word, turn)
