"""Creating, cancelling and retrying jobs: what is written, once, whatever else happens to the job."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    attempt_start,
    job_cancel,
    job_create,
    job_retry,
    jobs_claim,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput, NotFound, Unprocessable
from controlplane.lib.ids import id_moment, new_id
from controlplane.lib.work import Work, at_work
from tests.conftest import ADMIN, OPERATOR
from tests.interleaving import every_order
from tests.jobs.conftest import event_of, stored_job
from tests.properties.consistency import Everything

pytestmark = pytest.mark.usefixtures("pipeline")

VIEWER = Actor("user", "01kaviewer0000000000000000", "viewer", frozenset())
REPOSITORY = "https://git.example.com/app.git"


def save(name: str, definition: str | None, **members: Any) -> None:
    pipeline_save(actor=ADMIN, name=name, repository=REPOSITORY, default_ref="main", definition=definition, **members)


def refused(act: Callable[[], object], kind: type[ApplicationError]) -> str:
    with pytest.raises(kind) as refusal:
        act()
    return str(refusal.value.code)


def take(job_id: str, agent: Actor) -> None:
    """The agent claims the job and starts it."""
    (claimed,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(("gpu",)), limit=1)
    assert claimed.job_id == job_id
    attempt_start(agent=agent, job_id=job_id, attempt=claimed.attempt)


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_new_job_has_these_attributes_and_no_others(now: str) -> None:
    save("limited", "timeout: 5m\nretries: 1\nlabels: [linux]\nsteps: [{name: lint, run: make}]")
    job = job_create(actor=OPERATOR, pipeline="limited", git_ref="v1", env={"A": "1"}, priority=70, labels=["gpu"])
    stored = stored_job(job.job_id)
    del stored["definition"], stored["steps"], stored["env"]
    moment = id_moment(job.job_id)
    assert stored == {
        "job_id": job.job_id,
        "run_id": job.run_id,
        "node": "#first",
        "pipeline": "limited",
        "file_labels": [],
        "repository": REPOSITORY,
        "git_ref": "v1",
        "labels": ["gpu", "linux"],
        "priority": 70,
        "timeout": 300,
        "retries": 1,
        "requested_by": "operator",
        "requested_by_id": OPERATOR.id,
        "status": "queued",
        "attempt": 0,
        "lost_attempts": 0,
        "created_at": clock.timestamp(moment),
        "created_day": f"{moment:%Y-%m-%d}",
        "open": "open",
    }
    found = Job.get(job.job_id)
    assert (found.env, found.steps) == ({"A": "1"}, [{"name": "lint", "state": "pending"}])
    assert found.definition["timeout"] == 300
    assert job.run_id != job.job_id
    detail = {"pipeline": "limited", "git_ref": "v1", "retry_of": None}
    assert event_of(job.job_id, "job.created") == {"actor": OPERATOR.id, "result": "ok", "detail": detail}
    (entry,) = Everything.read().entries
    assert (entry.attempt, entry.since) == (1, None)


def test_a_job_without_members_is_of_the_default_pipeline_and_ref_and_of_priority_50() -> None:
    job = Job.get(job_create(actor=OPERATOR).job_id)
    assert (job.pipeline, job.git_ref, job.priority, job.env, list(job.labels)) == ("self", "main", 50, None, [])


def test_a_job_whose_definition_is_in_the_repository_has_the_default_retries_and_no_steps_yet() -> None:
    save("own", None)
    job = Job.get(job_create(actor=OPERATOR, pipeline="own").job_id)
    assert (job.definition, job.steps, job.timeout, job.retries) == (None, None, None, 2)


def test_a_new_job_is_the_subject_of_its_request() -> None:
    work = Work(request_id="test")
    with at_work(work):
        job = job_create(actor=OPERATOR)
    assert work.job_id == job.job_id


def test_only_who_has_the_permission_creates_cancels_or_retries(make_job: Callable[..., str]) -> None:
    job_id = make_job()
    for act in (
        partial(job_create, actor=VIEWER),
        partial(job_cancel, actor=VIEWER, job_id=job_id),
        partial(job_retry, actor=VIEWER, job_id=job_id),
    ):
        assert refused(act, Forbidden) == "forbidden"
    assert (len(Everything.read().jobs), stored_job(job_id)["status"]) == (1, "queued")


def test_an_invalid_ref_an_unknown_pipeline_or_a_repository_that_is_no_longer_allowed_makes_no_job(
    settings: Any,
) -> None:
    assert refused(partial(job_create, actor=OPERATOR, git_ref="a b"), InvalidInput)
    assert refused(partial(job_create, actor=OPERATOR, pipeline="nowhere"), NotFound) == "pipeline_not_found"
    settings.ALLOWED_REPOSITORIES = ["https://elsewhere.example.com/**"]
    with pytest.raises(InvalidInput) as refusal:
        job_create(actor=OPERATOR)
    assert refusal.value.errors[0]["field"] == "pipeline"
    assert Everything.read().jobs == {}


# --- retrying ---------------------------------------------------------------------------------------------------------


def test_a_retry_is_a_new_job_like_the_old_one_of_todays_pipeline() -> None:
    old = job_create(actor=OPERATOR, git_ref="v1", env={"A": "1"}, priority=70, labels=["gpu"])
    assert refused(partial(job_retry, actor=ADMIN, job_id=old.job_id), Conflict) == "job_not_finished"
    job_cancel(actor=OPERATOR, job_id=old.job_id)
    save("self", "timeout: 7m\nsteps: [{run: make}]")
    job = job_retry(actor=ADMIN, job_id=old.job_id)
    assert job.job_id != old.job_id
    found = Job.get(job.job_id)
    assert (found.git_ref, found.env, found.priority, list(found.labels)) == ("v1", {"A": "1"}, 70, ["gpu"])
    assert (found.retry_of, found.requested_by, found.timeout) == (old.job_id, "admin", 420)
    detail = {"pipeline": "self", "git_ref": "v1", "retry_of": old.job_id}
    assert event_of(job.job_id, "job.retried") == {"actor": ADMIN.id, "result": "ok", "detail": detail}


def test_a_retry_with_a_key_is_made_once_and_its_key_is_for_that_job_only() -> None:
    first, second = (job_create(actor=OPERATOR) for _ in range(2))
    for job in (first, second):
        job_cancel(actor=OPERATOR, job_id=job.job_id)
    retry = partial(job_retry, actor=OPERATOR, idempotency_key="k1")
    assert retry(job_id=first.job_id).job_id == retry(job_id=first.job_id).job_id
    assert refused(partial(retry, job_id=second.job_id), Unprocessable) == "idempotency_key_reused"


def test_a_job_and_its_retries_name_each_other() -> None:
    old = job_create(actor=OPERATOR)
    job_cancel(actor=OPERATOR, job_id=old.job_id)
    retries = [job_retry(actor=OPERATOR, job_id=old.job_id).job_id for _ in range(22)]
    assert list(Job.get(old.job_id).retried_by) == retries[2:]
    assert {Job.get(job_id).retry_of for job_id in retries} == {old.job_id}


def test_of_two_retries_at_the_same_moment_one_is_made() -> None:
    alone = 0
    for order in every_order():
        old = job_create(actor=OPERATOR)
        job_cancel(actor=OPERATOR, job_id=old.job_id)
        retry = partial(job_retry, actor=OPERATOR, job_id=old.job_id)
        outcomes = order.race(retry, partial(retry, idempotency_key=new_id()))
        made = [outcome.job_id for outcome in outcomes if isinstance(outcome, Job)]
        # Where one has ended before the other began, both are made.
        assert {"job_just_retried"}.issuperset(outcome for outcome in outcomes if not isinstance(outcome, Job))
        assert sorted(Job.get(old.job_id).retried_by) == sorted(made)
        assert {Job.get(job_id).retry_of for job_id in made} == {old.job_id}
        alone += len(made) == 1
    assert alone
    assert Everything.read().inconsistencies() == []


def test_a_retry_without_variables_has_none() -> None:
    old = job_create(actor=OPERATOR)
    job_cancel(actor=OPERATOR, job_id=old.job_id)
    assert job_retry(actor=OPERATOR, job_id=old.job_id).env is None
    assert refused(partial(job_retry, actor=OPERATOR, job_id=new_id()), NotFound) == "job_not_found"
