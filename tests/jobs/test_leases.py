"""Outages of the control plane, and of the network to it, cost no job."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache

from apps.agents.models import Heartbeat
from apps.agents.services import agent_enrol, enrolment_token_create
from apps.audit.selectors import audit_list
from apps.jobs.models import LEASES, SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors import job_get, job_log_read
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import agents_mark, attempt_expire, jobs_claim, leases, leases_expire, logs_archive
from apps.jobs.services.leases import leases_look
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import ItemTooLarge
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.faults.injection import Fault, outage
from tests.interleaving import before_call, every_order
from tests.jobs.conftest import event_of
from tests.metering import dynamodb_calls
from tests.polling import polled
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]


@pytest.fixture
def once(pipeline: str) -> str:
    """A pipeline whose jobs are not run again after a loss."""
    repository = "https://git.example.com/app.git"
    definition = "retries: 0\nsteps: [{run: make deploy}]"
    pipeline_save(actor=ADMIN, name="once", repository=repository, default_ref="main", definition=definition)
    return "once"


def fleet(server: str, make_job: MakeJob, agents: int) -> list[tuple[AgentClient, dict[str, object]]]:
    """Agents with a running job each."""
    machines = [enrolled(server, name=f"build-{number}") for number in range(agents)]
    for _ in machines:
        make_job()
    return [(machine, machine.take()) for machine in machines]


def statuses() -> set[str]:
    return {str(job.status) for job in Job.scan()}


def later(seconds: float) -> AbstractContextManager[None]:
    return clock.shifted(timedelta(seconds=seconds))


# --- after a gap in which no agent was heard, every lease gets one full period ---------------------------------------


@pytest.mark.parametrize("away", [31, 46, 75, 300, 4000])
def test_the_first_agent_back_after_an_outage_takes_no_lease_of_its_neighbours(
    server: str, make_job: MakeJob, away: int
) -> None:
    running = fleet(server, make_job, 5)
    with later(away):
        for machine, assignment in running:
            machine.heartbeat(running=[assignment], free_slots=0)
            assert leases_expire() == 0
        with later(20):
            for machine, assignment in running:
                machine.heartbeat(running=[assignment], free_slots=0)
            assert leases_expire() == 0
    assert statuses() == {"running"}


def test_an_agent_that_does_not_return_after_an_outage_loses_its_lease_one_full_period_later(
    server: str, make_job: MakeJob
) -> None:
    (back, assignment), (_, lost) = fleet(server, make_job, 2)
    with later(75):
        for seconds in (0, 15, 30, 44):
            with later(seconds):
                back.heartbeat(running=[assignment], free_slots=0)
                assert statuses() == {"running"}, seconds
        with later(58):
            back.heartbeat(running=[assignment], free_slots=0)
    assert job_get(str(lost["job_id"])).status == "queued"
    assert job_get(str(assignment["job_id"])).status == "running"


@pytest.mark.parametrize("interval", [12, 15, 18])
def test_the_job_of_a_killed_agent_is_queued_again_within_90_seconds_while_one_other_agent_polls(
    server: str, make_job: MakeJob, interval: int
) -> None:
    other = enrolled(server, name="build-2")
    other.heartbeat(free_slots=0)
    ((_, lost),) = fleet(server, make_job, 1)
    for seconds in range(interval, 90, interval):
        with later(seconds):
            other.heartbeat(free_slots=0)
            if job_get(str(lost["job_id"])).status == "queued":
                break
    assert 45 <= seconds <= 72


def test_an_unhealthy_agent_polls_for_its_neighbours_too(server: str, make_job: MakeJob) -> None:
    other = enrolled(server, name="build-2")
    other.heartbeat()
    ((_, lost),) = fleet(server, make_job, 1)
    for seconds in (0, 15, 30, 45, 60):
        with later(seconds):
            other.heartbeat(fault="The battery is low.")
    assert job_get(str(lost["job_id"])).status == "queued"


# --- the sweep runs although no agent reaches the control plane ------------------------------------------------------


def test_sweeps_expire_nothing_while_no_agent_is_heard_for_ten_minutes(server: str, make_job: MakeJob) -> None:
    running = fleet(server, make_job, 3)
    for minute in range(1, 10):
        with later(60 * minute):
            assert leases_expire() == 0
    with later(600):
        for machine, assignment in running:
            machine.heartbeat(running=[assignment], free_slots=0)
        assert leases_expire() == 0
    assert statuses() == {"running"}


def test_after_ten_minutes_without_any_agent_the_sweep_expires_their_leases(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 3)
    expired = []
    for minute in range(1, 13):
        with later(60 * minute):
            expired.append(leases_expire())
    assert expired == [0] * 9 + [3, 0, 0]
    assert statuses() == {"queued"}


def test_the_first_sweep_after_an_outage_of_hours_expires_nothing(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 2)
    with later(3 * 3600):
        assert leases_expire() == 0
        with later(60):
            assert leases_expire() == 0
    assert statuses() == {"running"}


def test_when_most_of_the_fleet_falls_silent_together_its_leases_last_three_minutes(
    server: str, make_job: MakeJob
) -> None:
    enrolled(server, name="heard").heartbeat()
    running = fleet(server, make_job, 4)
    heard = enrolled(server, name="heard-2")
    for seconds in range(0, 180, 15):
        with later(seconds):
            heard.heartbeat(free_slots=0)
    assert statuses() == {"running"}
    with later(180):
        running[0][0].heartbeat(running=[running[0][1]], free_slots=0)
    with later(195):
        heard.heartbeat(free_slots=0)
    assert sorted(str(job.status) for job in Job.scan()) == ["queued", "queued", "queued", "running"]


# --- a finish that comes late ----------------------------------------------------------------------------------------


def audited(job_id: str) -> list[str]:
    """What was done to the job today, the latest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [str(record.action) for record in records if record.target == f"job:{job_id}"]


def test_a_finish_that_comes_late_ends_the_job_as_long_as_it_waits(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    started_at = job_get(job_id).started_at
    with polled(50):
        assert leases_expire() == 1
        assert agent.log(assignment, 0, b"done\n").status_code == 200
        assert agent.finish(assignment, log_chunks=1).status_code == 200
    job = job_get(job_id)
    assert (job.status, int(job.attempt), job.agent_id) == ("completed", 1, agent.agent_id)
    assert (job.agent_name, job.started_by, job.started_at) == ("build-1", agent.agent_id, started_at)
    assert int(job.lost_attempts) == 0
    assert QueueEntry.count(next(row.position for row in queue_registry().sets)) == 0
    assert Everything.read().inconsistencies() == []
    assert operator.get(f"/jobs/{job_id}/log").content == b"done\n"
    assert operator.get(f"/agents/{agent.agent_id}").json()["running_jobs"] == []


def test_a_finish_that_comes_late_replaces_the_failure_of_a_lost_job(
    operator: Client, agent: AgentClient, make_job: MakeJob, once: str
) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    assert agent.log(assignment, 0, b"deployed\n").status_code == 200
    with polled(50):
        assert leases_expire() == 1
        lost = operator.get(f"/jobs/{job_id}").json()
        assert lost["status"] == "failed"
        assert "was lost" in lost["error_message"]
        with later(10):
            logs_archive()
            cache.clear()
            assert agent.log(assignment, 1, b"well\n").status_code == 200
            assert agent.finish(assignment, log_chunks=2).status_code == 200
            found = operator.get(f"/jobs/{job_id}").json()
            assert (found["status"], found["error_message"]) == ("completed", None)
            logs_archive()
    assert operator.get(f"/jobs/{job_id}/log").content == b"deployed\nwell\n"
    assert audited(job_id)[0] == "job.outcome_replaced"
    assert Everything.read().inconsistencies() == []
    assert operator.get("/jobs?status=completed").json()["total"] == 1
    assert operator.get("/jobs?status=failed").json()["jobs"] == []


def test_a_late_failure_replaces_the_loss_too(agent: AgentClient, make_job: MakeJob, once: str) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        leases_expire()
        assert agent.finish(assignment, exit_code=2, error_message="Step 1 failed.").status_code == 200
    job = job_get(job_id)
    assert (job.status, int(job.exit_code), job.error_message) == ("failed", 2, "Step 1 failed.")
    assert Everything.read().inconsistencies() == []


def test_a_loss_is_replaced_on_the_next_day_too(agent: AgentClient, make_job: MakeJob, once: str) -> None:
    make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        leases_expire()
    with clock.shifted(timedelta(days=1, seconds=60)):
        assert agent.finish(assignment).status_code == 200
        assert Everything.read().inconsistencies() == []


def test_a_late_finish_that_is_repeated_changes_nothing_more(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        for exit_code in (0, 1, 0):
            assert agent.finish(assignment, exit_code=exit_code).status_code == 200
    assert job_get(job_id).status == "completed"
    assert audited(job_id).count("job.finished") == 1


def test_a_late_finish_is_refused_once_another_attempt_has_begun(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        other = enrolled(server, name="build-2")
        (again,) = other.heartbeat()["jobs"]
        cache.clear()
        problem(agent.finish(assignment), 409, "stale_attempt")
        problem(agent.log(assignment, 0, b"x"), 409, "stale_attempt")
        other.start(again)
        other.finish(again, exit_code=1)
        problem(agent.finish(assignment), 409, "stale_attempt")
    assert (job_get(job_id).status, int(job_get(job_id).attempt)) == ("failed", 2)


def test_only_the_agent_that_lost_the_attempt_may_finish_it_late(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    other = enrolled(server, name="build-2")
    with polled(50):
        leases_expire()
        problem(other.finish(assignment), 409, "stale_attempt")
        problem(agent.finish({**assignment, "attempt": 2}), 409, "stale_attempt")


def test_a_cancelled_job_stays_cancelled_after_a_late_finish(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        leases_expire()
        assert operator.post(f"/jobs/{job_id}/cancel").status_code == 200
        problem(agent.finish(assignment), 409, "stale_attempt")
    assert job_get(job_id).status == "cancelled"
    assert job_log_read(job=job_get(job_id), offset=0, limit=10).complete


def test_an_agent_that_still_runs_a_lost_attempt_goes_on_with_it_while_the_job_waits(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    started_at = job_get(job_id).started_at
    with polled(50):
        assert leases_expire() == 1
        answer = agent.heartbeat(running=[assignment], free_slots=3)
        assert (answer["wishes"], answer["jobs"]) == ([], [])
        job = job_get(job_id)
        assert (job.status, int(job.attempt), int(job.lost_attempts)) == ("running", 1, 0)
        assert (job.agent_id, job.started_at) == (agent.agent_id, started_at)
        assert Everything.read().inconsistencies() == []
        operator.post(f"/jobs/{job_id}/cancel")
        assert agent.heartbeat(running=[assignment])["wishes"] == [{**assignment, "wish": "cancel"}]
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"
    assert Everything.read().inconsistencies() == []


def test_an_agent_that_still_runs_the_last_attempt_of_a_failed_job_goes_on_with_it(
    agent: AgentClient, make_job: MakeJob, once: str
) -> None:
    job_id = make_job(pipeline=once)
    assignment = agent.take()
    with polled(50):
        assert leases_expire() == 1
        assert agent.heartbeat(running=[assignment])["wishes"] == []
        assert agent.finish(assignment).status_code == 200
    assert job_get(job_id).status == "completed"


def test_the_sweep_marks_no_agent_unhealthy_for_a_silence_during_which_the_control_plane_was_away(
    server: str, make_job: MakeJob
) -> None:
    running = fleet(server, make_job, 3)
    with later(600):
        assert agents_mark() == 0
        leases_expire()
        running[0][0].heartbeat(running=[running[0][1]])
        with later(30):
            assert agents_mark() == 0
        for seconds in (15, 30, 45, 50):
            with later(seconds):
                running[0][0].heartbeat(running=[running[0][1]])
        with later(51):
            assert agents_mark() == 2


def test_the_first_poll_after_a_gap_reads_no_heartbeats(server: str, make_job: MakeJob) -> None:
    fleet(server, make_job, 1)
    with later(75):
        row = queue_registry().looks
        with dynamodb_calls() as metering:
            assert leases_look(row=row) == 0
    assert metering.operations == ["UpdateItem"]


# --- the row about polls ----------------------------------------------------------------------------------------------


def at(seconds: float) -> str:
    """So many seconds from now, as the row has it."""
    return clock.timestamp(clock.now() + timedelta(seconds=seconds))


def row_set(**ages: float) -> None:
    """Write the row: each moment is so many seconds ago."""
    row = QueueSet(SETS, LEASES)
    for name, age in ages.items():
        setattr(row, name, at(-age))
    row.save()


def row_ages() -> dict[str, float]:
    """How many seconds ago each moment of the row was."""
    names = ("looked_at", "searched_at", "resumed_at", "swept_at")
    row = queue_registry().looks
    moments = {name: getattr(row, name) for name in names if row is not None and getattr(row, name)}
    return {name: (clock.now() - clock.parse_timestamp(text)).total_seconds() for name, text in moments.items()}


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch, now: str, settings: Any) -> list[tuple[float | None, float]]:
    """The searches for expired leases that a test causes: since how many seconds agents are heard, and their time."""
    # As in production. The clock stands.
    settings.AGENT_CHECK_SECONDS = 15
    found: list[tuple[float | None, float]] = []

    def expire(*, heard_since: datetime | None, now: datetime, seconds: float) -> int:
        assert now == clock.now()
        found.append((None if heard_since is None else (now - heard_since).total_seconds(), seconds))
        return 7

    monkeypatch.setattr(leases, "_expire", expire)
    return found


Searches = list[tuple[float | None, float]]


def look() -> int:
    return leases_look(row=queue_registry().looks)


@pytest.mark.parametrize(("age", "is_noted"), [(0, False), (10, False), (10.001, True), (-0.001, True), (-50, True)])
def test_a_poll_is_noted_unless_another_was_within_ten_seconds(
    tables: None, searches: Searches, age: float, is_noted: bool
) -> None:
    row_set(looked_at=age, searched_at=5, resumed_at=500)
    assert look() == 0
    assert row_ages()["looked_at"] == (0 if is_noted else age)
    assert searches == []


@pytest.mark.parametrize(("age", "is_searched"), [(20, False), (20.001, True), (-1, True)])
def test_a_poll_searches_unless_another_has_within_twenty_seconds(
    tables: None, searches: Searches, age: float, is_searched: bool
) -> None:
    row_set(looked_at=11, searched_at=age, resumed_at=500)
    assert look() == (7 if is_searched else 0)
    assert searches == ([(500, 2)] if is_searched else [])
    assert row_ages() == {"looked_at": 0, "searched_at": 0 if is_searched else age, "resumed_at": 500}


@pytest.mark.parametrize(("age", "resumed"), [(30, 500), (30.001, 0)])
def test_polls_are_resumed_after_a_gap_of_thirty_seconds(
    tables: None, searches: Searches, age: float, resumed: float
) -> None:
    row_set(looked_at=age, searched_at=60, resumed_at=500)
    look()
    assert (row_ages()["resumed_at"], searches) == (resumed, [(resumed, 2)])


def test_a_gap_is_at_least_two_polls_long(tables: None, searches: Searches, settings: Any) -> None:
    settings.AGENT_CHECK_SECONDS = 60
    for age, resumed in ((120, 500), (120.001, 0)):
        row_set(looked_at=age, searched_at=60, resumed_at=500)
        look()
        assert row_ages()["resumed_at"] == resumed


def test_the_first_poll_of_all_writes_the_row(tables: None, searches: Searches) -> None:
    look()
    assert row_ages() == {"looked_at": 0, "searched_at": 0, "resumed_at": 0}
    assert searches == [(0, 2)]


def test_of_two_polls_at_once_one_searches(tables: None, searches: Searches) -> None:
    outcomes = set()
    for order in every_order():
        row_set(looked_at=11, searched_at=60, resumed_at=500)
        outcomes.add(order.race(look, look))
    assert outcomes == {(7, 0), (0, 7)}


def test_a_database_that_fails_does_not_fail_the_agents_request(tables: None, searches: Searches) -> None:
    row = queue_registry().looks
    with outage(Fault.ERROR):
        assert leases_look(row=row) == 0
    assert searches == []


@pytest.mark.parametrize(("age", "is_searched"), [(0, True), (30, True), (30.001, False)])
def test_a_sweep_searches_at_once_while_agents_poll(
    tables: None, searches: Searches, age: float, is_searched: bool
) -> None:
    row_set(looked_at=age, resumed_at=500, swept_at=60)
    assert leases_expire(seconds=9) == (7 if is_searched else 0)
    assert searches == ([(500, 9)] if is_searched else [])
    assert row_ages()["swept_at"] == (60 if is_searched else 0)


@pytest.mark.parametrize(("unheard", "is_searched"), [(600, False), (600.001, True)])
def test_a_sweep_searches_when_no_agent_was_heard_for_ten_minutes(
    tables: None, searches: Searches, unheard: float, is_searched: bool
) -> None:
    for looked_at, resumed_at in ((unheard, 4000), (4000, unheard)):
        row_set(looked_at=looked_at, resumed_at=resumed_at, swept_at=60)
        assert leases_expire(seconds=9) == (7 if is_searched else 0)
        assert searches == ([(None, 9)] if is_searched else [])
        assert row_ages() == {"looked_at": looked_at, "resumed_at": resumed_at, "swept_at": 0}
        searches.clear()


@pytest.mark.parametrize(("away", "resumed"), [(150, 4000), (150.001, 0)])
def test_a_sweep_after_a_pause_of_everything_begins_to_count_anew(
    tables: None, searches: Searches, away: float, resumed: float
) -> None:
    for ages in ({"looked_at": away, "swept_at": 5000}, {"looked_at": 5000, "swept_at": away}):
        row_set(resumed_at=4000, **ages)
        leases_expire()
        assert row_ages()["resumed_at"] == resumed
        assert bool(searches) == (ages["looked_at"] == 5000 and resumed == 4000)
        searches.clear()


def test_the_first_sweep_of_all_writes_the_row_and_searches_nothing(tables: None, searches: Searches) -> None:
    assert leases_expire() == 0
    assert row_ages() == {"resumed_at": 0, "swept_at": 0}
    assert searches == []


def test_a_sweep_that_an_agent_overtakes_leaves_the_search_to_it(tables: None, searches: Searches) -> None:
    row_set(looked_at=700, resumed_at=700, swept_at=60)
    with before_call(look, operations=frozenset({"UpdateItem"})):
        assert leases_expire(seconds=9) == 0
    assert searches == [(0, 2)]


@pytest.mark.parametrize(("age", "expected"), [(120, True), (119.999, False)])
def test_agents_were_heard_for_a_while_if_their_polls_came_without_a_gap_and_still_come(
    tables: None, now: str, age: float, expected: bool
) -> None:
    two_minutes = timedelta(minutes=2)
    row_set(looked_at=5, resumed_at=age)
    assert leases.looked_for(two_minutes) is expected
    row_set(looked_at=31, resumed_at=age)
    assert leases.looked_for(two_minutes) is False
    row_set(looked_at=5)
    assert leases.looked_for(two_minutes) is False
    row_set(swept_at=5, resumed_at=age)
    assert leases.looked_for(two_minutes) is False


# --- the search -------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tables: None) -> Actor:
    """An enrolled agent that sends no more heartbeats."""
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)
    credentials = agent_enrol(token=token, name="build", region="eu", labels=[], slots=4)
    return Actor("agent", credentials.agent_id, "build")


def claim(machine: Actor, limit: int = 1) -> None:
    assert len(jobs_claim(agent=machine, sets=queue_registry().sets_for(()), limit=limit)) == limit


@pytest.mark.parametrize(("heard", "expired"), [(45, 0), (45.001, 1)])
def test_silence_counts_only_while_agents_are_heard(
    make_job: MakeJob, machine: Actor, now: str, heard: float, expired: int
) -> None:
    make_job()
    claim(machine)
    with later(200):
        row_set(looked_at=5, resumed_at=heard)
        assert leases_expire() == expired
    assert statuses() == {"queued" if expired else "assigned"}


def test_a_search_says_why_the_attempt_was_lost(make_job: MakeJob, machine: Actor) -> None:
    job_id = make_job()
    claim(machine)
    with polled(50):
        assert leases_expire() == 1
    assert event_of(job_id, "job.requeued")["detail"]["reason"] == "its agent sent no heartbeat for 45 s"


def test_a_heartbeat_after_the_search_has_read_keeps_the_lease(make_job: MakeJob, machine: Actor) -> None:
    make_job()
    claim(machine)
    with polled(50):
        beat = partial(Heartbeat(machine.id).update, actions=[Heartbeat.at.set(at(0))])
        with before_call(beat, operations=frozenset({"TransactWriteItems"})):
            assert leases_expire() == 0
    assert statuses() == {"assigned"}


def test_a_search_stops_when_its_time_is_over_and_the_next_goes_on(make_job: MakeJob, machine: Actor) -> None:
    for _ in range(3):
        make_job()
    claim(machine, 3)
    with polled(50):
        assert [leases_expire(seconds=0) for _ in range(4)] == [1, 1, 1, 0]


def test_a_job_that_is_too_large_to_be_queued_again_does_not_hold_up_the_others(
    make_job: MakeJob, machine: Actor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    large, _ = make_job(), make_job()
    claim(machine, 2)
    expire = attempt_expire

    def refuse(*, job_id: str, **arguments: Any) -> bool:
        if job_id == large:
            raise ItemTooLarge(["job"])
        return expire(job_id=job_id, **arguments)

    monkeypatch.setattr(leases, "attempt_expire", refuse)
    with polled(50):
        assert leases_expire() == 1
    (record,) = [record for record in caplog.records if record.getMessage() == "a lease was not expired"]
    assert record.job_id == large  # type: ignore[attr-defined]


def test_agents_are_marked_by_their_silence_since_the_control_plane_is_back(
    tables: None, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[tuple[float | None, float]] = []

    def mark(*, heard_since: datetime | None, seconds: float) -> int:
        marked.append((None if heard_since is None else (clock.now() - heard_since).total_seconds(), seconds))
        return 3

    monkeypatch.setattr("apps.agents.services.agents_mark_silent", mark)
    assert agents_mark(seconds=4) == 3
    for ages in (
        {"looked_at": 5, "resumed_at": 500},
        {"looked_at": 150, "resumed_at": 500},
        {"looked_at": 151, "resumed_at": 500},
        {"looked_at": 151, "swept_at": 150, "resumed_at": 500},
    ):
        row_set(**ages)
        agents_mark(seconds=4)
    assert marked == [(None, 4), (500, 4), (500, 4), (0, 4), (500, 4)]
