"""What the answer to a heartbeat says about work, and how the server enforces limits whatever an agent does."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.services import Lease
from apps.jobs.models import QueueSet
from apps.jobs.selectors import job_get
from apps.jobs.selectors.queue import Registry
from apps.jobs.services import dispatch
from apps.jobs.services.claims import Assignment
from apps.jobs.services.dispatch import Dispatch, next_dispatch, work_dispatch
from apps.jobs.states import Status
from apps.pipelines.definitions import MAX_TIMEOUT_SECONDS
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]
GRACE = 120


@pytest.fixture
def limited(pipeline: str) -> Callable[[str], str]:
    """Saves a pipeline with this definition and gives its name."""

    def save(definition: str | None) -> str:
        repository = "https://git.example.com/app.git"
        pipeline_save(actor=ADMIN, name="limited", repository=repository, default_ref="main", definition=definition)
        return "limited"

    return save


def heartbeats(agent: AgentClient, assignment: dict[str, Any], *, until: float, **members: Any) -> list[dict[str, Any]]:
    """Heartbeats each 15 s until so many seconds have passed; returns the commands of the last one."""
    for seconds in (*range(max(0, int(until) - 150), int(until), 15), until):
        with later(seconds):
            commands: list[dict[str, Any]] = agent.heartbeat(running=[assignment], free_slots=0, **members)["wishes"]
    return commands


def later(seconds: float) -> AbstractContextManager[None]:
    return clock.shifted(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("definition", "limit"),
    [
        ("steps: [{run: make}]", 3600),
        ("timeout: 1m\nsteps: [{run: make}]", 60),
        ("timeout: 24h\nsteps: [{run: make}]", 86400),
    ],
)
def test_an_attempt_over_its_limit_ends_as_timed_out_although_its_agent_goes_on_with_heartbeats(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str], str], definition: str, limit: int
) -> None:
    job_id = make_job(pipeline=limited(definition))
    (assignment,) = agent.heartbeat()["jobs"]
    assert agent.start(assignment).json()["timeout"] == limit
    assert heartbeats(agent, assignment, until=limit + GRACE - 5) == []
    assert job_get(job_id).status == "running"
    abandon = [{**assignment, "wish": "abandon"}]
    assert heartbeats(agent, assignment, until=limit + GRACE + 5) == abandon
    job = job_get(job_id)
    assert (job.status, job.error_message) == (
        "timed_out",
        f"The job exceeded its time limit of {limit} s. Its agent did not stop it.",
    )
    assert heartbeats(agent, assignment, until=limit + GRACE + 20) == abandon
    assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "timed_out"
    assert Everything.read().inconsistencies() == []


def test_the_steps_of_a_job_that_the_server_ends_show_where_it_stood(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    steps = [{"name": "lint", "state": "completed"}, {"name": "test", "state": "running"}]
    steps.append({"name": "more", "state": "pending"})
    heartbeats(agent, {**assignment, "steps": steps}, until=3600 + GRACE + 5)
    shown = operator.get(f"/jobs/{job_id}").json()["steps"]
    assert [step["state"] for step in shown] == ["completed", "timed_out", "skipped"]


def test_the_limit_in_the_repositorys_file_counts_from_the_start_on(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    job_id = make_job(pipeline=limited(None))
    (assignment,) = agent.heartbeat()["jobs"]
    assert agent.start(assignment).json()["timeout"] is None
    with later(100):
        answer = agent.define(assignment, "timeout: 2h\nsteps: [{run: make}]")
        assert answer.json()["timeout"] == 7200
    assert heartbeats(agent, assignment, until=7200 + GRACE - 5) == []
    assert heartbeats(agent, assignment, until=7200 + GRACE + 5) != []
    assert job_get(job_id).status == "timed_out"


def test_a_repositorys_file_without_a_limit_gets_an_hour(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    make_job(pipeline=limited(None))
    assignment = agent.take()
    assert agent.define(assignment, "steps: [{run: make}]").json()["timeout"] == 3600
    assert heartbeats(agent, assignment, until=3600 + GRACE + 5) != []


def test_a_definition_may_ask_for_24_hours_and_no_more(
    agent: AgentClient, make_job: MakeJob, limited: Callable[[str | None], str]
) -> None:
    make_job(pipeline=limited(None))
    assignment = agent.take()
    for text in ("86401", "25h", "0"):
        answer = agent.define(assignment, f"timeout: {text}\nsteps: [{{run: make}}]")
        (error,) = problem(answer, 422, "definition_invalid")["errors"]
        assert (error["field"], error["line"]) == ("timeout", 1)
    assert MAX_TIMEOUT_SECONDS == 86400


def test_an_agent_that_could_not_report_during_an_outage_may_still_report_that_it_ended_in_time(
    agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with later(3600 + 600):
        assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] == []
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"


def test_after_an_outage_an_attempt_over_its_limit_ends_two_minutes_after_the_return(
    agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    for seconds in range(0, 120, 15):
        with later(3600 + 600 + seconds):
            assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] == [], seconds
    with later(3600 + 600 + 125):
        assert agent.heartbeat(running=[assignment], free_slots=0)["wishes"] != []


def test_a_cancel_that_the_agent_does_not_obey_within_two_minutes_ends_the_attempt(
    operator: Client, server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    heartbeats(agent, assignment, until=300)
    with later(300):
        operator.post(f"/jobs/{job_id}/cancel")
    assert heartbeats(agent, assignment, until=300 + 115) == [{**assignment, "wish": "cancel"}]
    assert job_get(job_id).status == "running"
    assert heartbeats(agent, assignment, until=300 + 125) == [{**assignment, "wish": "abandon"}]
    job = job_get(job_id)
    assert (job.status, job.error_message) == (
        "cancelled",
        "The agent did not cancel the job within 2 minutes, so the control plane did.",
    )
    with later(430):
        assert agent.heartbeat(free_slots=0)["wishes"] == []
    make_job()
    assert enrolled(server, name="build-2").heartbeat()["jobs"] != []
    assert Everything.read().inconsistencies() == []


# --- what each lease means --------------------------------------------------------------------------------------------

AGENT = Actor("agent", "agent-1", "build")
STEPS = [{"name": "lint", "state": "running"}]


class Calls:
    """Stands in for the rest of the services: notes what the dispatch asks of them, and answers as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"looked_for": True, "jobs_claim": [], "leases_look": 0}
        self.sets = [QueueSet("sets", "a", labels=[]), QueueSet("sets", "b", labels=["gpu"])]
        for name in ("attempt_end", "attempt_expire", "attempt_keep", "attempt_release", "jobs_claim", "looked_for"):
            monkeypatch.setattr(dispatch, name, self._note(name))
        monkeypatch.setattr(dispatch, "leases_look", self._note("leases_look"))
        monkeypatch.setattr(dispatch, "queue_registry", self._registry)

    def _note(self, name: str) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self.asked.append((name, {**named, **({"duration": arguments[0]} if arguments else {})}))
            return self.answers.get(name, True)

        return called

    def _registry(self) -> Registry:
        self.asked.append(("queue_registry", {}))
        return Registry(sets=self.sets, looks=None)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [named for called, named in self.asked if called == name]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, now: str, settings: Any) -> Calls:
    settings.AGENT_CHECK_SECONDS = 15
    monkeypatch.setattr("apps.jobs.services.dispatch.random.uniform", lambda low, high: (low + high) / 2)
    return Calls(monkeypatch)


def lease(age: float, *, started: bool = True, **members: Any) -> Lease:
    return Lease(attempt=1, at=clock.timestamp(clock.now() - timedelta(seconds=age)), started=started, **members)


def dispatched(*, leases: dict[str, Lease] | None = None, running: Any = (), **members: Any) -> Dispatch:
    arguments = {"free_slots": 0, "slots": 4, "fresh": True, "takes_work": True, **members}
    return work_dispatch(agent=AGENT, labels=["gpu"], leases=leases or {}, running=running, **arguments)


def named(job_id: str = "j", attempt: int = 1, **members: Any) -> dict[str, Any]:
    return {"job_id": job_id, "attempt": attempt, **members}


def commands(answer: Dispatch) -> list[dict[str, Any]]:
    return [command.as_dict() for command in answer.commands]


@pytest.mark.parametrize(("age", "is_released"), [(60, False), (60.001, True)])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_offer_is_repeated_for_a_minute_and_then_released(
    calls: Calls, age: float, is_released: bool, fresh: bool
) -> None:
    answer = dispatched(leases={"j": lease(age, started=False)}, fresh=fresh)
    assert answer.assignments == ([] if is_released else [Assignment("j", 1)])
    released = [{"agent_id": "agent-1", "job_id": "j", "attempt": 1}]
    assert calls.of("attempt_release") == (released if is_released else [])


@pytest.mark.parametrize(("age", "fresh", "is_lost"), [(45, True, False), (45.001, True, True), (50, False, False)])
def test_a_started_attempt_that_the_agent_does_not_name_is_lost_after_a_lease(
    calls: Calls, age: float, fresh: bool, is_lost: bool
) -> None:
    answer = dispatched(leases={"j": lease(age)}, fresh=fresh)
    reason = "the agent no longer runs it"
    lost = {"agent_id": "agent-1", "job_id": "j", "attempt": 1, "heartbeat_at": None, "reason": reason}
    assert calls.of("attempt_expire") == ([lost] if is_lost else [])
    assert (answer.assignments, answer.commands) == ([], [])


def test_an_attempt_that_the_agent_names_goes_on_and_gets_its_command(calls: Calls) -> None:
    assert commands(dispatched(leases={"j": lease(100)}, running=[named()])) == []
    answer = dispatched(leases={"j": lease(100, command="cancel")}, running=[named()])
    assert commands(answer) == [{"job_id": "j", "attempt": 1, "wish": "cancel"}]
    # Also one that it has not acknowledged yet.
    assert commands(dispatched(leases={"j": lease(100, started=False)}, running=[named()])) == []
    assert [name for name, _ in calls.asked if name.startswith("attempt")] == []


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize(
    ("age", "members", "after", "message"),
    [
        (120, {"limit": 0}, None, ""),
        (220, {"limit": 100}, None, ""),
        (220.001, {"limit": 100}, "timed_out", "The job exceeded its time limit of 100 s. Its agent did not stop it."),
        (9999, {}, None, ""),
        (50, {"limit": 100, "command": "cancel", "ordered": 120}, None, ""),
        (
            50,
            {"limit": 100, "command": "cancel", "ordered": 120.001},
            "cancelled",
            "The agent did not cancel the job within 2 minutes, so the control plane did.",
        ),
        (
            9999,
            {"limit": 100, "command": "cancel", "ordered": 121},
            "cancelled",
            "The agent did not cancel the job within 2 minutes, so the control plane did.",
        ),
    ],
)
def test_an_attempt_that_its_agent_should_have_ended_is_ended_if_agents_were_heard_for_as_long(
    calls: Calls, age: float, members: dict[str, Any], after: str | None, message: str, is_heard: bool
) -> None:
    ordered = members.pop("ordered", None) if "ordered" in members else None
    if ordered is not None:
        members = {**members, "command_at": clock.timestamp(clock.now() - timedelta(seconds=ordered))}
    calls.answers["looked_for"] = is_heard
    answer = dispatched(leases={"j": lease(age, **members)}, running=[named(steps=STEPS)])
    if after is None or not is_heard:
        assert calls.of("attempt_end") == []
        assert [command.command for command in answer.commands] == (["cancel"] if "command" in members else [])
        return
    ended = {"agent_id": "agent-1", "job_id": "j", "attempt": 1, "after": Status(after), "message": message}
    assert calls.of("attempt_end") == [{**ended, "steps": STEPS}]
    assert commands(answer) == [{"job_id": "j", "attempt": 1, "wish": "abandon"}]
    assert calls.of("looked_for") == [{"duration": timedelta(minutes=2)}]


def test_an_attempt_whose_end_was_overtaken_keeps_its_command(calls: Calls) -> None:
    calls.answers["attempt_end"] = False
    late = clock.timestamp(clock.now() - timedelta(seconds=121))
    answer = dispatched(leases={"j": lease(5, command="cancel", command_at=late)}, running=[named()])
    assert commands(answer) == [{"job_id": "j", "attempt": 1, "wish": "cancel"}]


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_attempt_without_a_lease_is_abandoned_unless_a_fresh_report_shows_that_it_goes_on(
    calls: Calls, is_kept: bool, fresh: bool
) -> None:
    calls.answers["attempt_keep"] = is_kept
    answer = dispatched(leases={"j": lease(5, started=False)}, running=[named(attempt=2), named("k")], fresh=fresh)
    abandoned = [] if is_kept and fresh else [("j", 2, "abandon"), ("k", 1, "abandon")]
    assert [(one.job_id, one.attempt, one.command) for one in answer.commands] == abandoned
    kept = [{"agent": AGENT, "job_id": job_id, "attempt": attempt} for job_id, attempt in (("j", 2), ("k", 1))]
    assert calls.of("attempt_keep") == (kept if fresh else [])


# --- how many jobs an answer brings -----------------------------------------------------------------------------------


def claimed(calls: Calls) -> int | None:
    """How many jobs the dispatch wanted to claim."""
    found = calls.of("jobs_claim")
    assert len(found) <= 1
    return int(found[0]["limit"]) if found else None


@pytest.mark.parametrize(
    ("free", "slots", "leases", "limit"),
    [
        (0, 4, 0, None),
        (1, 4, 0, 1),
        (4, 4, 0, 4),
        # No more than four at once.
        (64, 64, 0, 4),
        # Whatever the agent says is free.
        (64, 3, 0, 3),
        (64, 4, 3, 1),
        (64, 4, 4, None),
        (64, 2, 4, None),
        (2, 4, 1, 2),
    ],
)
def test_an_answer_brings_jobs_for_the_slots_that_are_free_by_both_accounts(
    calls: Calls, free: int, slots: int, leases: int, limit: int | None
) -> None:
    held = {f"j{number}": lease(5) for number in range(leases)}
    dispatched(leases=held, running=[named(job_id) for job_id in held], free_slots=free, slots=slots)
    assert claimed(calls) == limit
    if limit:
        (asked,) = calls.of("jobs_claim")
        assert asked == {"agent": AGENT, "sets": calls.sets, "limit": limit, "slots": slots}


def test_an_offer_takes_one_of_the_slots_that_the_agent_says_are_free(calls: Calls) -> None:
    dispatched(leases={"j": lease(5, started=False)}, free_slots=2)
    assert claimed(calls) == 1


def test_a_lease_that_ends_now_leaves_its_slot_and_a_lost_attempt_that_goes_on_takes_one(calls: Calls) -> None:
    dispatched(leases={"j": lease(99)}, free_slots=64, slots=1)
    assert claimed(calls) == 1
    calls.asked.clear()
    dispatched(running=[named("k")], free_slots=64, slots=1)
    assert claimed(calls) is None


@pytest.mark.parametrize("members", [{"fresh": False}, {"takes_work": False}])
def test_a_repeated_report_or_an_agent_that_takes_no_work_gets_no_job(calls: Calls, members: dict[str, bool]) -> None:
    answer = dispatched(free_slots=4, running=(), leases={}, **members)
    assert (claimed(calls), answer.next_check_interval) == (None, 15)
    assert bool(calls.of("leases_look")) is members.get("fresh", True)


def test_claimed_jobs_follow_the_offers_that_are_repeated(calls: Calls) -> None:
    calls.answers["jobs_claim"] = [Assignment("k", 3)]
    answer = dispatched(leases={"j": lease(5, started=False)}, free_slots=2)
    assert answer.assignments == [Assignment("j", 1), Assignment("k", 3)]


def test_the_registry_is_read_again_when_the_poll_has_expired_leases(calls: Calls) -> None:
    dispatched()
    assert len(calls.of("queue_registry")) == 1
    calls.answers["leases_look"] = 1
    dispatched()
    assert len(calls.of("queue_registry")) == 3


def test_an_agent_comes_again_sooner_while_sets_exist_that_it_may_run(calls: Calls, settings: Any) -> None:
    assert dispatched().next_check_interval == 5
    settings.AGENT_CHECK_SECONDS = 3
    assert dispatched().next_check_interval == 3
    calls.sets = []
    assert dispatched(free_slots=4).next_check_interval == 3
    settings.AGENT_CHECK_SECONDS = 15
    assert dispatched().next_check_interval == 15
    assert claimed(calls) is None


def test_intervals_vary_by_a_fifth_and_are_at_least_a_second(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    monkeypatch.setattr("apps.jobs.services.dispatch.random.uniform", uniform)
    assert dispatch._interval(10) == 8
    assert dispatch._interval(0) == 1
    assert bounds == [(0.8, 1.2)] * 2


# --- the next job after a finish --------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [[], [Assignment("k", 1)]])
def test_a_finish_brings_one_job_if_the_agent_wants_one_and_has_not_had_it(
    calls: Calls, found: list[Assignment]
) -> None:
    calls.answers["jobs_claim"] = found
    following = next_dispatch(agent=AGENT, labels=[], slots=2, is_repeated=False, wants_next=True)
    assert following == (found[0] if found else None)
    assert calls.of("jobs_claim") == [{"agent": AGENT, "sets": calls.sets[:1], "limit": 1, "slots": 2}]
    calls.asked.clear()
    for is_repeated, wants_next in ((True, True), (False, False), (True, False)):
        assert next_dispatch(agent=AGENT, labels=[], is_repeated=is_repeated, wants_next=wants_next) is None
    assert calls.asked == []
