"""Runs of forks: no secret, no cache, no environment, until an operator lets this run."""

from typing import Any

import pytest

from apps.audit.selectors import audit_search
from apps.jobs.models import Job, Run
from apps.jobs.selectors.job_origin import job_origin
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import run_allow, run_retry
from apps.jobs.services.caches import cache_save
from apps.jobs.services.identity_tokens import _identity
from apps.jobs.services.uploads import ArchiveReport
from apps.secrets.services import secret_create
from apps.secrets.services.identity_claims import subject_of
from apps.secrets.states import Scope
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, Unprocessable
from controlplane.lib.presigned import Part
from tests.clients import problem
from tests.conftest import ADMIN, OPERATOR, person
from tests.jobs.runs import STEPS, Worker, states
from tests.jobs.test_event_runs import begun, read, run_of
from tests.jobs.test_event_starts import runs, worked
from tests.jobs.test_secret_deliveries import Receiver, ask
from tests.sources.hooks import B, C, bound, connected, github_pull

TEXT = f"""
jobs:
  test: {{secrets: [PYPI_TOKEN], {STEPS}}}
  ship: {{environment: production, {STEPS}}}
  sly: {{labels: ['deploy:production'], {STEPS}}}
on: {{pull_request: {{}}}}
"""


@pytest.fixture
def fork(worker: Worker) -> Worker:
    connected()
    bound(definition=None)
    secret_create(actor=ADMIN, name="PYPI_TOKEN", value="a value that is long", scope=Scope(pull_requests=True))
    return worker


def expanded(worker: Worker, **members: Any) -> Run:
    """The run of a pull request whose file was read."""
    job = begun(worker, github_pull(**members), "pull_request")
    read(worker, job, TEXT)
    worker.finish(job)
    return run_of(job)


def test_a_forks_pull_request_gets_no_secret_no_cache_write_and_no_environment(fork: Worker) -> None:
    run = expanded(fork, fork=True)
    assert states(str(run.run_id)) == {"test": "queued", "ship": "skipped", "sly": "skipped"}
    assert "deploy to no environment" in str(run_view(str(run.run_id)).nodes["ship"].reason)
    (job,) = fork.take_all()
    assert job_origin(job).is_from_fork
    report = ArchiveReport(size=1, sha256="a" * 64, parts=[Part(1, "a" * 64)], media="application/gzip")
    assert cache_save(agent=fork.agent, job_id=str(job.job_id), attempt=1, key="k", report=report, base="") == (
        None,
        [],
    )
    identity = _identity(Job.get(job.job_id), agent=fork.agent, targets=["production"])
    assert (identity.environment, subject_of(identity)) == (None, "pipeline:web:pull_request:fork")
    with pytest.raises(ApplicationError):
        ask(fork, job, Receiver().channel("production"))
    assert "a pull request from a fork" in str(Job.get(job.job_id).error_message)


def test_a_pull_request_of_the_repository_itself_gets_what_is_meant_for_pull_requests(fork: Worker) -> None:
    run = expanded(fork)
    assert states(str(run.run_id)) == {"test": "queued", "ship": "queued", "sly": "queued"}
    job = Job.get(run_view(str(run.run_id)).nodes["test"].job_id)
    assert not job_origin(job).is_from_fork
    (job, *_) = fork.take_all()
    identity = _identity(Job.get(job.job_id), agent=fork.agent, targets=["production"])
    assert (identity.environment, subject_of(identity)) == (None, "pipeline:web:pull_request")


def test_an_operator_lets_this_run_and_the_next_push_is_asked_for_again(fork: Worker) -> None:
    run = expanded(fork, fork=True)
    run_id = str(run.run_id)
    for _ in range(2):
        allowed = run_allow(actor=OPERATOR, run_id=run_id)
    assert (allowed.allowed_by, bool(allowed.allowed_at)) == ("operator", True)
    (event,) = [one for one in audit_search(target=f"run:{run_id}").records if one.action == "run.allowed"]
    assert (event.detail["from"], event.detail["commit"], event.detail["pull_request"]) == ("stranger/shop", B, 7)
    (job,) = fork.take_all()
    receiver = Receiver()
    assert receiver.open(ask(fork, job, receiver.channel()), job, fork.agent.id) == {
        "PYPI_TOKEN": "a value that is long"
    }
    fork.finish(job)
    run_retry(actor=OPERATOR, run_id=run_id, everything=True)
    assert states(run_id) == {"test": "queued", "ship": "queued", "sly": "queued"}
    worked(github_pull("synchronize", head=C, before=B, fork=True), "pull_request")
    assert runs()[0].allowed_at is None


def test_the_only_job_of_a_fork_cannot_ask_for_an_agent_that_deploys(fork: Worker) -> None:
    job = begun(fork, github_pull(fork=True), "pull_request")
    text = f"labels: ['deploy:production']\n{STEPS}\non: {{pull_request: {{}}}}"
    with pytest.raises(Unprocessable, match="deployment target"):
        read(fork, job, text)


def test_only_who_may_manage_secrets_lets_a_run(fork: Worker, server: str) -> None:
    run = expanded(fork, fork=True)
    viewer, operator = person(server, "viewer"), person(server, "operator")
    assert viewer.post(f"/runs/{run.run_id}/allow").status_code == 403
    answer = operator.post(f"/runs/{run.run_id}/allow")
    assert (answer.status_code, answer.json()["allowed_by"], answer.json()["is_fork"]) == (
        200,
        "tests (operator@example.com)",
        True,
    )
    own = expanded(fork, number=9)
    problem(operator.post(f"/runs/{own.run_id}/allow"), 409, "run_not_of_fork")
    with pytest.raises(Forbidden):
        run_allow(actor=fork.agent, run_id=str(run.run_id))
    with pytest.raises(Conflict):
        run_allow(actor=ADMIN, run_id=str(own.run_id))
