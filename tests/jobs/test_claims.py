"""Handing out work: one winner for each attempt, in the right order, for few calls."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.agents.models import Heartbeat
from apps.jobs.label_sets import position_job_id
from apps.jobs.models import Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import HEAD, QueueFront, queue_head, queue_registry
from apps.jobs.services import attempt_expire, claims, job_cancel, jobs_claim
from apps.jobs.services.jobs import job_create
from apps.jobs.services.queue import entry_of
from controlplane.lib import clock, metric_names
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Unavailable
from controlplane.lib.work import Work, at_work
from tests.conftest import ADMIN
from tests.faults.injection import Fault, fault
from tests.interleaving import before_call
from tests.jobs.conftest import MakeAgent, event_of, stored_job, stored_lease
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything


def claim(agent: Actor, *, labels: tuple[str, ...] = (), limit: int = 1) -> list[str]:
    return [
        assignment.job_id for assignment in jobs_claim(agent=agent, sets=queue_registry().sets_for(labels), limit=limit)
    ]


def test_jobs_are_handed_out_oldest_first(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    jobs = [make_job() for _ in range(5)]
    agent = make_agent()
    assert [claim(agent) for _ in range(6)] == [[job] for job in jobs] + [[]]


def test_a_higher_priority_goes_first(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    make_job(priority=50)
    urgent = make_job(priority=51)
    make_job(priority=0)
    assert claim(make_agent()) == [urgent]


def test_priority_holds_across_label_sets(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    make_job(priority=10)
    urgent = make_job(priority=90, labels=["gpu"])
    assert claim(make_agent(), labels=("gpu",)) == [urgent]


def test_an_agent_gets_only_jobs_whose_labels_it_has(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    special = make_job(labels=["gpu", "linux"])
    assert claim(make_agent(), labels=("linux",)) == []
    assert claim(make_agent(), labels=("linux", "gpu", "big")) == [special]


def test_a_claimed_job_is_assigned_and_out_of_the_queue(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    job_id, agent = make_job(), make_agent()
    claim(agent)
    job = Job.find(job_id)
    assert job is not None
    assert (job.status, job.attempt, job.agent_id) == ("assigned", 1, agent.id)
    assert [queue_head(queue_set.position) for queue_set in queue_registry().sets] == [[]]


def test_several_slots_are_filled_at_once(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    jobs = {make_job() for _ in range(3)}
    assert set(claim(make_agent(), limit=4)) == jobs


def test_a_calm_claim_costs_two_calls_and_at_most_eight_write_units(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    make_job()
    agent = make_agent()
    sets = queue_registry().sets_for(())
    with dynamodb_calls() as metering:
        assert len(jobs_claim(agent=agent, sets=sets, limit=1)) == 1
    assert metering.operations == ["Query", "TransactWriteItems"]
    assert metering.write_units <= 8


@pytest.mark.slow
@pytest.mark.parametrize(("crowd", "count"), [(12, 120), pytest.param(50, 1000, marks=pytest.mark.nightly)])
def test_agents_storming_many_jobs_find_one_winner_each_for_few_calls(
    pipeline: str, operator_actor: Actor, make_agent: MakeAgent, crowd: int, count: int
) -> None:
    with ThreadPoolExecutor(16) as pool:
        jobs = set(pool.map(lambda _: job_create(actor=operator_actor).job_id, range(count)))
    agents = [make_agent() for _ in range(crowd)]
    sets = queue_registry().sets_for(())
    claimed: list[str] = []
    looks = itertools.count()

    def storm(agent: Actor) -> None:
        while True:
            try:
                assignments = jobs_claim(agent=agent, sets=sets, limit=1)
            except Unavailable:
                # So slow is only the emulator. A real agent asks again, too, and finds a job that it got unnoticed.
                continue
            claimed.extend(assignment.job_id for assignment in assignments)
            if not assignments:
                next(looks)
                if not queue_head(sets[0].position):
                    return
                # The last entries are in others' hands. A real agent asks again after seconds.
                time.sleep(0.2)

    with dynamodb_calls() as metering, ThreadPoolExecutor(crowd) as pool:
        list(pool.map(storm, agents))
    leased = [job_id for heartbeat in Everything.read().heartbeats.values() for job_id in heartbeat.leases]
    assert max(Counter(leased).values()) == max(Counter(claimed).values()) == 1
    assert set(leased) == jobs
    assert set(claimed) <= jobs
    # A poll that finds nothing, and the look into the queue after it, are no claims.
    useful = metering.calls - 2 * next(looks)
    assert useful / count <= 2.2


# --- an entry that is stale when its claim is written -----------------------------------------------------------------

WRITE = frozenset({"TransactWriteItems"})


def lose(job_id: str, agent: Actor, attempt: int = 1) -> None:
    """The agent loses its attempt, and the job waits again, at the same position."""
    assert attempt_expire(agent_id=agent.id, job_id=job_id, attempt=attempt, heartbeat_at=None, reason="a test")


def test_a_stale_entry_of_a_job_that_was_claimed_and_lost_meanwhile_is_not_claimed(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """The queue has an entry for the next attempt at the very same position."""
    job_id, faster, slower = make_job(), make_agent(), make_agent()

    def claim_and_lose() -> None:
        cache.clear()
        assert claim(faster) == [job_id]
        lose(job_id, faster)

    with before_call(claim_and_lose, operations=WRITE):
        assert claim(slower) == []
    assert (stored_job(job_id)["status"], stored_job(job_id)["attempt"]) == ("queued", 1)
    assert stored_lease(slower.id, job_id) is None
    assert [entry.attempt for entry in Everything.read().entries] == [2]
    assert Everything.read().inconsistencies() == []
    assert claim(slower) == [job_id]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_entry_that_is_gone_when_its_claim_is_written_costs_nothing_but_the_try(
    make_job: Callable[..., str], make_agent: MakeAgent, is_cancelled: bool
) -> None:
    gone, following, faster, slower = make_job(), make_job(), make_agent(), make_agent()

    def take_away() -> None:
        cache.clear()
        if is_cancelled:
            job_cancel(actor=ADMIN, job_id=gone)
        else:
            assert claim(faster) == [gone]

    with before_call(take_away, operations=WRITE), dynamodb_calls() as metering:
        assert claim(slower) == [following]
    assert "GetItem" not in metering.operations[-2:]
    assert stored_lease(slower.id, gone) is None
    assert Everything.read().inconsistencies() == []


def test_an_entry_for_another_attempt_than_its_jobs_next_one_is_healed_and_not_claimed(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """As after a restore: the entry waits, and its job says otherwise."""
    job_id, following, agent = make_job(), make_job(), make_agent()
    entry_of(Job.get(job_id), attempt=2).save()
    assert claim(agent) == [following]
    assert stored_lease(agent.id, job_id) is None
    assert Everything.read().inconsistencies() == []
    cache.clear()
    assert claim(agent) == [job_id]
    assert stored_job(job_id)["attempt"] == 1


# --- what a claim leaves behind ---------------------------------------------------------------------------------------


def test_a_claim_is_measured_noted_and_in_the_trail(
    make_job: Callable[..., str], make_agent: MakeAgent, now: str
) -> None:
    job_id, agent = make_job(), make_agent()
    work = Work(request_id="test")
    with clock.shifted(timedelta(seconds=7)), at_work(work):
        assert claim(agent) == [job_id]
    ((name, waited),) = work.measures
    assert (name, work.job_id) == (metric_names.JOB_WAIT, job_id)
    assert waited == pytest.approx(7, abs=0.01)
    assert event_of(job_id, "job.claimed") == {"actor": agent.id, "result": "ok", "detail": {"attempt": 1}}


def test_an_assignment_has_the_attempt_of_its_entry(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    job_id, agent = make_job(), make_agent()
    claim(agent)
    lose(job_id, agent)
    cache.clear()
    (assignment,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    assert assignment.as_dict() == {"job_id": job_id, "attempt": 2}
    assert stored_job(job_id)["attempt"] == 2


def test_an_agent_whose_slots_are_full_leaves_the_entry_to_others_of_the_same_process(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    first, second, agent = make_job(), make_job(), make_agent()
    sets = queue_registry().sets_for(())
    assert [one.job_id for one in jobs_claim(agent=agent, sets=sets, limit=2, slots=1)] == [first]
    with dynamodb_calls() as metering:
        assert jobs_claim(agent=agent, sets=sets, limit=2, slots=1) == []
    assert metering.operations.count("TransactWriteItems") == 1
    assert claims._spread() == 1
    assert claim(make_agent()) == [second]


def test_an_agent_that_gets_no_work_any_more_claims_nothing_and_hides_nothing(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    job_id, agent = make_job(), make_agent()
    Heartbeat(agent.id).update(actions=[Heartbeat.status.set("draining")])
    assert claim(agent) == []
    assert claim(make_agent()) == [job_id]


def test_a_claim_is_tried_once_and_an_entry_that_others_write_stays_for_the_next_poll(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    first, second, agent = make_job(), make_job(), make_agent()
    sets = queue_registry().sets_for(())
    with fault(Fault.CONFLICT, call=1) as injected:
        claimed = jobs_claim(agent=agent, sets=sets, limit=1)
    assert [one.job_id for one in claimed] == [second]
    assert injected.operations == ["Query", "TransactWriteItems", "TransactWriteItems"]
    assert claims._spread() > 1
    assert [entry.position for entry in Everything.read().entries] == [entry_of(Job.get(first), attempt=1).position]


def test_a_poll_tries_four_entries_more_than_it_may_claim(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    for _ in range(12):
        make_job()
    for limit in (1, 2):
        cache.clear()
        sets = queue_registry().sets_for(())
        with fault(Fault.CONFLICT, call=1, lasting=True) as injected:
            assert jobs_claim(agent=make_agent(), sets=sets, limit=limit) == []
        assert injected.operations.count("TransactWriteItems") == 4 + limit


def test_a_job_that_its_agent_avoids_is_for_others(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    job_id, agent = make_job(), make_agent()
    entry = entry_of(Job.get(job_id), attempt=1)
    until = clock.timestamp(clock.now() + timedelta(seconds=60))
    QueueEntry(entry.set_id, entry.position).update(
        actions=[QueueEntry.avoid.set([agent.id]), QueueEntry.avoid_until.set(until)]
    )
    assert claim(agent) == []
    with clock.shifted(timedelta(seconds=61)):
        assert claim(agent) == [job_id]


def test_what_one_thread_tries_another_of_the_process_leaves_alone(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    first, second = make_job(), make_job()
    inner: list[list[str]] = []
    with before_call(lambda: inner.append(claim(make_agent())), operations=WRITE):
        assert claim(make_agent()) == [first]
    assert inner == [[second]]
    assert claims._spread() > 1


# --- the order under contention ---------------------------------------------------------------------------------------


def test_each_lost_race_doubles_the_range_up_to_200_and_each_second_halves_it_and_a_win_narrows_it(now: str) -> None:
    cache.clear()
    assert claims._spread() == 1
    claims._narrow_spread()
    assert claims._spread() == 1
    widths = []
    for _ in range(9):
        claims._widen_spread()
        widths.append(claims._spread())
    assert widths == [2, 4, 8, 16, 32, 64, 128, 200, 200]
    claims._narrow_spread()
    assert claims._spread() == pytest.approx(196)
    with clock.shifted(timedelta(seconds=2)):
        assert claims._spread() == pytest.approx(49)
    with clock.shifted(timedelta(seconds=60)):
        assert claims._spread() == 1
    # A clock that was set back does not widen it.
    with clock.shifted(timedelta(seconds=-60)):
        assert claims._spread() == pytest.approx(196)
    cache.clear()


def test_under_contention_a_poll_reads_as_many_entries_as_it_draws_from(
    make_job: Callable[..., str], make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job()
    limits: list[int] = []

    def front(sets: Sequence[QueueSet], limit: int) -> QueueFront:
        limits.append(limit)
        return QueueFront(sets, limit=limit)

    monkeypatch.setattr(claims, "QueueFront", front)
    claim(make_agent())
    for _ in range(6):
        claims._widen_spread()
    claim(make_agent())
    assert (limits[0], limits[1] > 50) == (HEAD, True)


def test_the_range_has_only_jobs_of_the_first_priority_and_the_others_follow_in_their_order(
    make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.services.claims.random.shuffle", lambda entries: entries.reverse())
    urgent, late = [make_job(priority=90) for _ in range(3)], [make_job(priority=10) for _ in range(3)]
    entries = queue_head(queue_registry().sets[0].position)
    for _ in range(2):
        claims._widen_spread()
    order = [position_job_id(entry.position) for entry in claims._in_order_of_trial(iter(entries))]
    assert order == [*reversed(urgent), *late]
    assert list(claims._in_order_of_trial(iter([]))) == []
