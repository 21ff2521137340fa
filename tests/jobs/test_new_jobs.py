"""New jobs: how large they may be, and the keys by which a repeated request makes one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from apps.jobs.models import IdempotencyKey
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    attempt_start,
    job_create,
    jobs_claim,
    new_jobs,
)
from apps.pipelines.services import pipeline_delete, pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, InvalidInput, NotFound, Unprocessable
from controlplane.nosql.transaction import TransactionConflicted, TransactionFailed
from tests.conftest import ADMIN, OPERATOR
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


def test_the_largest_job_is_taken_and_a_larger_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = job_create(actor=OPERATOR, env={"A": "x" * 1000}).stored_bytes()
    monkeypatch.setattr(new_jobs, "MAX_NEW_JOB_BYTES", size)
    job_create(actor=OPERATOR, env={"A": "x" * 1000})
    assert refused(partial(job_create, actor=OPERATOR, env={"A": "x" * 1001}), InvalidInput) == "job_too_large"
    assert len(Everything.read().jobs) == 2


def test_a_transaction_that_fails_for_another_reason_than_the_key_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for failure in (TransactionFailed({"entry": None}), TransactionFailed({"idempotency": None})):
        monkeypatch.setattr(new_jobs, "move_commit", Mock(side_effect=failure))
        for key in (None, "k1"):
            with pytest.raises(TransactionFailed):
                job_create(actor=OPERATOR, idempotency_key=key)


def test_a_conflict_about_the_key_is_the_callers_and_any_other_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    create = partial(job_create, actor=OPERATOR, idempotency_key="k1")
    monkeypatch.setattr(new_jobs, "move_commit", Mock(side_effect=TransactionConflicted(["idempotency", "counter"])))
    assert refused(create, Conflict) == "idempotency_key_in_use"
    monkeypatch.setattr(new_jobs, "move_commit", Mock(side_effect=TransactionConflicted(["counter"])))
    with pytest.raises(TransactionConflicted):
        create()


# --- the key of a request ---------------------------------------------------------------------------------------------


def test_a_key_is_stored_as_a_digest_with_its_job_for_24_hours(now: str) -> None:
    job = job_create(actor=OPERATOR, idempotency_key="k1")
    (key,) = IdempotencyKey.scan()
    assert (key.job_id, len(key.key), len(key.fingerprint)) == (job.job_id, 64, 64)
    assert key.expires_at == (clock.now() + timedelta(hours=24)).replace(microsecond=0)


def test_a_key_belongs_to_one_actor_of_one_kind() -> None:
    actors = [OPERATOR, replace(OPERATOR, id="another"), replace(OPERATOR, kind="token")]
    assert len({job_create(actor=actor, idempotency_key="k1").job_id for actor in actors}) == 3


@pytest.mark.parametrize(
    "members", [{"pipeline": "self"}, {"git_ref": "v2"}, {"env": {"A": "2"}}, {"priority": 51}, {"labels": ["b"]}]
)
def test_a_key_belongs_to_one_content(members: dict[str, Any]) -> None:
    first: dict[str, Any] = {"git_ref": "v1", "env": {"A": "1"}, "labels": ["a"]}
    made = job_create(actor=OPERATOR, idempotency_key="k1", **first)
    create = partial(job_create, actor=OPERATOR, idempotency_key="k1", **{**first, **members})
    assert refused(create, Unprocessable) == "idempotency_key_reused"
    assert job_create(actor=OPERATOR, idempotency_key="k1", **first).job_id == made.job_id


@pytest.mark.parametrize(("seconds", "is_same"), [(24 * 3600 - 1, True), (24 * 3600 + 1, False)])
def test_an_expired_key_makes_a_new_job_and_of_a_pipeline_that_is_gone_none(
    now: str, seconds: float, is_same: bool
) -> None:
    save("other", "steps: [{run: make}]")
    first = job_create(actor=OPERATOR, idempotency_key="k1")
    gone = job_create(actor=OPERATOR, idempotency_key="k2", pipeline="other")
    pipeline_delete(actor=ADMIN, name="other")
    with clock.shifted(timedelta(seconds=seconds)):
        assert (job_create(actor=OPERATOR, idempotency_key="k1").job_id == first.job_id) is is_same
        again = partial(job_create, actor=OPERATOR, idempotency_key="k2", pipeline="other")
        if is_same:
            assert again().job_id == gone.job_id
        else:
            assert refused(again, NotFound) == "pipeline_not_found"
    assert refused(partial(job_create, actor=OPERATOR, pipeline="other"), NotFound) == "pipeline_not_found"
    other = partial(job_create, actor=OPERATOR, idempotency_key="k2", pipeline="other", priority=1)
    assert refused(other, Unprocessable) == "idempotency_key_reused"
