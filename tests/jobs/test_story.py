"""The attempts of a job, as its page and the API list them."""

from collections.abc import Callable
from typing import Any

import pytest

from apps.audit.selectors import AuditPage
from apps.jobs.selectors import job_attempts, job_get
from apps.jobs.services import attempt_expire, attempt_release, job_cancel, job_create, leases_expire
from apps.jobs.services.losses import attempt_end
from apps.jobs.states import Status
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import Actor
from tests.clients import Client
from tests.conftest import ADMIN
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.signing import AgentClient, enrolled


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


def save(*, definition: str | None) -> None:
    """The default pipeline, with this definition or the repository's own."""
    url = "https://git.example.com/app.git"
    pipeline_save(actor=ADMIN, name="self", repository=url, default_ref="main", definition=definition)


def attempts(client: Client, job_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    return list(answer.json()["attempts"])


def story_of(client: Client, job_id: str) -> list[tuple[Any, ...]]:
    return [(attempt["number"], attempt["outcome"], attempt["reason"]) for attempt in attempts(client, job_id)]


def test_a_job_that_waits_has_no_attempts(viewer: Client, job_id: str) -> None:
    assert attempts(viewer, job_id) == []


def test_a_first_attempt_is_told_from_the_job_itself(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    (attempt,) = attempts(viewer, job_id)
    job = job_get(job_id)
    assert attempt == {
        "number": 1,
        "agent_id": agent.agent_id,
        "agent_name": job.agent_name,
        "assigned_at": job.assigned_at,
        "started_at": job.started_at,
        "ended_at": None,
        "outcome": None,
        "end": None,
        "reason": None,
    }
    agent.finish(assignment)
    with dynamodb_calls() as metering:
        (ended,) = job_attempts(job_get(job_id))
    assert (ended.outcome, ended.ended_at) == ("completed", job_get(job_id).completed_at)
    assert (ended.end, ended.reason) == ("completed", None)
    # The job.
    assert len(metering.operations) == 1


def test_a_lost_attempt_says_with_whom_and_why(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.take()
    with polled(50):
        leases_expire()
        lost, *others = attempts(viewer, job_id)
        assert not others
        assert (lost["number"], lost["outcome"], lost["agent_id"]) == (1, "queued", agent.agent_id)
        assert (lost["end"], lost["reason"]) == ("lost", "lost: no heartbeat for 45 s")
        assert lost["ended_at"] > lost["started_at"] > lost["assigned_at"]
        other = enrolled(viewer.server)
        assignment = other.take()
        assert [number for number, _, _ in story_of(viewer, job_id)] == [1, 2]
        other.finish(assignment, exit_code=1)
        with dynamodb_calls() as metering:
            first, second = job_attempts(job_get(job_id))
        assert (first.outcome, second.outcome, second.reason) == ("queued", "failed", "failed: exit code 1")
        assert second.agent_id == other.agent_id
        # The job, the index, the events.
        assert len(metering.operations) == 3


def test_the_last_loss_ends_the_job_and_no_retries_are_left(
    viewer: Client, make_job: Callable[..., str], agent: AgentClient
) -> None:
    job_id = make_job()
    for attempt in (1, 2, 3):
        assert viewer.get(f"/jobs/{job_id}").json()["retries_left"] == 3 - attempt
        assignment = agent.take()
        assert assignment["attempt"] == attempt
        attempt_expire(agent_id=agent.agent_id, job_id=job_id, attempt=attempt, heartbeat_at=None, reason="no power")
    assert story_of(viewer, job_id) == [
        (1, "queued", "lost: no power"),
        (2, "queued", "lost: no power"),
        (3, "failed", "lost: no power"),
    ]
    assert viewer.get(f"/jobs/{job_id}").json()["retries_left"] == 0


def test_an_attempt_that_was_never_started_is_told_too(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.heartbeat(free_slots=1)
    attempt_release(agent_id=agent.agent_id, job_id=job_id, attempt=1)
    ((number, outcome, reason),) = story_of(viewer, job_id)
    assert (number, outcome, reason) == (1, "queued", "not started: the agent did not acknowledge it")
    assert attempts(viewer, job_id)[0]["started_at"] is None


def test_a_report_that_comes_late_gives_the_attempt_its_end(viewer: Client, job_id: str, agent: AgentClient) -> None:
    assignment = agent.take()
    attempt_expire(agent_id=agent.agent_id, job_id=job_id, attempt=1, heartbeat_at=None, reason="no heartbeat for 45 s")
    agent.finish(assignment)
    assert story_of(viewer, job_id) == [(1, "completed", None)]


def ends(client: Client, job_id: str) -> list[tuple[Any, ...]]:
    return [(attempt["number"], attempt["end"], attempt["reason"]) for attempt in attempts(client, job_id)]


def test_an_attempt_that_needs_another_label_says_which_one(
    viewer: Client, operator_actor: Actor, agent: AgentClient
) -> None:
    save(definition=None)
    job_id = job_create(actor=operator_actor).job_id
    plain = enrolled(viewer.server, labels=["linux"])
    answer = plain.define(plain.take(), "labels: [gpu, linux]\nsteps: [{run: make}]\n")
    assert answer.json()["code"] == "job_moved"
    assert ends(viewer, job_id) == [(1, "moved", "moved: needs label gpu")]


def test_an_attempt_that_its_machine_has_failed_says_how(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.finish(agent.take(), exit_code=None, agent_fault="The disk is full.")
    assert ends(viewer, job_id) == [(1, "agent_fault", "agent fault: The disk is full")]


def test_a_cancelled_attempt_says_who_asked_for_it(
    viewer: Client, job_id: str, operator_actor: Actor, agent: AgentClient
) -> None:
    assignment = agent.take()
    job_cancel(actor=operator_actor, job_id=job_id)
    agent.finish(assignment, exit_code=1)
    assert ends(viewer, job_id) == [(1, "cancelled", "cancelled by operator")]


def test_an_offered_attempt_ends_when_its_job_is_cancelled(
    viewer: Client, job_id: str, operator_actor: Actor, agent: AgentClient
) -> None:
    agent.heartbeat(free_slots=1)
    attempt_release(agent_id=agent.agent_id, job_id=job_id, attempt=1)
    other = enrolled(viewer.server)
    other.heartbeat(free_slots=1)
    job_cancel(actor=operator_actor, job_id=job_id)
    (_, second) = attempts(viewer, job_id)
    assert (second["end"], second["reason"]) == ("cancelled", "cancelled by operator")
    assert second["ended_at"] is not None


@pytest.mark.parametrize(
    ("after", "message", "reason"),
    [
        ("timed_out", "The job exceeded its time limit of 60 s.", "timed out: The job exceeded its time limit of 60 s"),
        ("cancelled", "The agent did not cancel the job.", "cancelled: The agent did not cancel the job"),
    ],
)
def test_an_attempt_that_the_control_plane_ends_says_why(
    viewer: Client, job_id: str, agent: AgentClient, after: str, message: str, reason: str
) -> None:
    agent.take()
    end = {"agent_id": agent.agent_id, "job_id": job_id, "attempt": 1, "steps": None}
    assert attempt_end(after=Status(after), message=message, **end)  # type: ignore[arg-type]
    assert ends(viewer, job_id) == [(1, after, reason)]


@pytest.mark.parametrize(
    ("steps", "message", "end", "reason"),
    [
        ("failed", None, "failed", "failed: exit code 3"),
        ("timed_out", "Step “test” exceeded its 60 s.", "timed_out", "timed out: Step “test” exceeded its 60 s"),
    ],
)
def test_an_attempt_that_its_agent_ends_says_why(
    viewer: Client, job_id: str, agent: AgentClient, steps: str, message: str | None, end: str, reason: str
) -> None:
    step = {"name": "test", "state": steps, "exit_code": 3, "started_at": None, "completed_at": None}
    agent.finish(agent.take(), exit_code=3, error_message=message, steps=[step])
    assert ends(viewer, job_id) == [(1, end, reason)]


def test_a_job_that_could_not_begin_says_why_its_attempt_ended(viewer: Client, job_id: str, agent: AgentClient) -> None:
    agent.finish(agent.take(), exit_code=None, error_message="The repository has no branch, tag or commit 'v9'.")
    assert ends(viewer, job_id) == [
        (1, "failed", "failed: The repository has no branch, tag or commit 'v9'"),
    ]


def test_the_last_attempt_is_right_when_the_index_of_the_audit_trail_lags(
    viewer: Client, job_id: str, agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.selectors.story.audit_search", lambda **_: AuditPage([], None))
    agent.take()
    attempt_expire(agent_id=agent.agent_id, job_id=job_id, attempt=1, heartbeat_at=None, reason="no power")
    (lost,) = attempts(viewer, job_id)
    assert (lost["number"], lost["agent_id"], lost["end"]) == (1, agent.agent_id, "lost")
    other = enrolled(viewer.server)
    other.take()
    (running,) = attempts(viewer, job_id)
    assert (running["number"], running["agent_id"], running["end"]) == (2, other.agent_id, None)
    attempt_expire(agent_id=other.agent_id, job_id=job_id, attempt=2, heartbeat_at=None, reason="no power")
    third = enrolled(viewer.server)
    third.take()
    attempt_expire(agent_id=third.agent_id, job_id=job_id, attempt=3, heartbeat_at=None, reason="no power")
    (ended,) = attempts(viewer, job_id)
    assert (ended["number"], ended["end"], ended["reason"]) == (3, "lost", "lost: no power")
