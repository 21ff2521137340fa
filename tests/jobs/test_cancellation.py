"""Cancelling jobs, in whatever state they are and whatever else happens to them."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    attempt_expire,
    attempt_start,
    cancellation,
    job_cancel,
    jobs_claim,
)
from apps.jobs.states import Status
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, NotFound
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import TransactionFailed
from tests.conftest import ADMIN, OPERATOR
from tests.faults.injection import Fault, fault
from tests.interleaving import before_call
from tests.jobs.conftest import MakeAgent, event_of, stored_job
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


def test_a_job_that_waits_or_is_offered_is_cancelled_at_once_and_a_running_one_by_its_agent(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    running, agent = make_job(), make_agent()
    take(running, agent)
    offered = make_job()
    jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    waiting = make_job()
    for job_id, status, action in (
        (waiting, "cancelled", "job.cancelled"),
        (offered, "cancelled", "job.cancelled"),
        (running, "running", "job.cancel_requested"),
    ):
        for _ in range(2):
            job = job_cancel(actor=OPERATOR, job_id=job_id)
            assert (job.job_id, job.status) == (job_id, status)
        assert event_of(job_id, action) == {"actor": OPERATOR.id, "result": "ok", "detail": None}
    assert Everything.read().inconsistencies() == []


@pytest.mark.parametrize("end", [Status.COMPLETED, Status.FAILED, Status.TIMED_OUT])
def test_a_job_that_has_ended_in_another_way_cannot_be_cancelled(make_job: Callable[..., str], end: Status) -> None:
    job_id = make_job()
    Job(job_id).update(actions=[Job.status.set(end)])
    assert refused(partial(job_cancel, actor=OPERATOR, job_id=job_id), Conflict) == "job_finished"
    assert refused(partial(job_cancel, actor=OPERATOR, job_id=new_id()), NotFound) == "job_not_found"


def test_a_cancellation_follows_a_job_that_moves_on(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    """Each time that the cancellation would be written, the job has got another status."""
    job_id, agent = make_job(), make_agent()

    def lose() -> None:
        assert attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="a test")

    with (
        before_call(lambda: take(job_id, agent), call=1),
        before_call(lose, operations=frozenset({"TransactWriteItems"}), call=3),
    ):
        assert job_cancel(actor=OPERATOR, job_id=job_id).status == "cancelled"
    assert stored_job(job_id)["attempt"] == 1
    assert Everything.read().inconsistencies() == []


def test_a_cancellation_of_a_job_that_keeps_changing_is_given_up_after_five_tries(
    make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, move = make_job(), Mock(side_effect=TransactionFailed({"job": None}))
    monkeypatch.setattr(cancellation, "move_commit", move)
    assert refused(partial(job_cancel, actor=OPERATOR, job_id=job_id), Conflict) == "job_state"
    assert move.call_count == 5


def test_a_cancellation_that_conflicts_with_another_write_is_tried_again(make_job: Callable[..., str]) -> None:
    job_id = make_job()
    with fault(Fault.CONFLICT, call=1):
        assert job_cancel(actor=OPERATOR, job_id=job_id).status == "cancelled"
