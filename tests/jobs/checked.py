"""Runs whose checks a commit shows, and what the provider shows of them."""

from typing import Any

from apps.agents.states import MAX_SLOTS
from apps.audit.actions import Action
from apps.jobs.models import Job
from apps.jobs.services import outbox_work
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.new_jobs import job_enqueue, job_of, run_of
from apps.jobs.services.queue import entry_of
from apps.jobs.states import Event
from apps.pipelines.selectors import pipeline_get
from controlplane.nosql.transaction import Transaction
from tests.conftest import OPERATOR
from tests.jobs.runs import Worker
from tests.sources.fake_provider import FakeProvider

SHOP, HEAD = "acme/shop", "5ca1ab1e" + "0" * 32


def checked_job(pipeline: str = "graph", *, commit: str = HEAD, pull_request: int | None = None) -> Job:
    """The first job of a new run whose checks the commit shows, through the connection github."""
    source = pipeline_get(pipeline)
    job = job_of(source, actor=OPERATOR, git_ref="main", env={}, priority=50, labels=[])
    run = run_of(job, source=source, event=Event.API)
    run.checks_of, run.checks_repository, run.checks_commit = "github", SHOP, commit
    run.pull_request = pull_request
    job.checks_key = run.checks_key
    transaction = Transaction()
    transaction.put("run", run)
    return job_enqueue(job, actor=OPERATOR, action=Action.JOB_CREATED, idempotency=None, transaction=transaction)


def begun(worker: Worker, job: Job) -> Job:
    """The queued job, claimed and started by the worker, whatever else waits."""
    _entry_claim(entry_of(job, attempt=1), agent=worker.agent, slots=MAX_SLOTS)
    return worker.start(str(job.job_id))


def graph_run(worker: Worker, text: str, **members: Any) -> str:
    """A run whose first job has read the file `text`. Returns its id."""
    job = begun(worker, checked_job(**members))
    worker.report(job, text)
    worker.finish(job)
    return str(job.run_id)


def work() -> int:
    """Work off the outbox."""
    return outbox_work(seconds=20)


def shown(provider: FakeProvider) -> dict[str, str]:
    """How each check of the repository is: of several check runs of a name, the newest one, as GitHub has it."""
    return {
        run["name"].removeprefix("hybrid-ci/"): run.get("conclusion") or run["status"] for run in provider.check_runs
    }
