"""Handing out work: one winner for each attempt, in the right order, for few calls."""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_head, queue_registry
from apps.jobs.services import jobs_claim
from apps.jobs.services.jobs import job_create
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Unavailable
from tests.jobs.conftest import MakeAgent
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


@pytest.mark.parametrize(
    "count", [pytest.param(400, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.nightly)]
)
def test_fifty_agents_storming_many_jobs_find_one_winner_each_for_few_calls(
    pipeline: str, operator_actor: Actor, make_agent: MakeAgent, count: int
) -> None:
    with ThreadPoolExecutor(16) as pool:
        jobs = set(pool.map(lambda _: job_create(actor=operator_actor).job_id, range(count)))
    agents = [make_agent() for _ in range(50)]
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

    with dynamodb_calls() as metering, ThreadPoolExecutor(50) as pool:
        list(pool.map(storm, agents))
    leased = [job_id for heartbeat in Everything.read().heartbeats.values() for job_id in heartbeat.leases]
    assert max(Counter(leased).values()) == max(Counter(claimed).values()) == 1
    assert set(leased) == jobs
    assert set(claimed) <= jobs
    # A poll that finds nothing, and the look into the queue after it, are no claims.
    useful = metering.calls - 2 * next(looks)
    assert useful / count <= 2.2
