"""Agents that die, sleep or come back, and what becomes of their jobs."""

import os
import signal
import time
from datetime import timedelta

from apps.agents.services import agents_mark_silent
from apps.jobs.services import leases_expire
from controlplane.lib import clock
from tests.endtoend.conftest import Product, Repository, wait_for
from tests.polling import polled

# Longer than a lease, shorter than what signatures may be off.
LATER = timedelta(seconds=60)

# Notes each attempt's first step by its number, and ends when the test says so.
PATIENT = 'echo "attempt $HYBRID_CI_ATTEMPT begins"\nwhile [ ! -e {stop} ]; do sleep 0.1; done'


def test_the_job_of_a_killed_agent_runs_again_elsewhere_and_its_log_shows_both(
    product: Product, repository: Repository
) -> None:
    stop = product.tmp_path / "stop"
    repository.define(PATIENT.format(stop=stop))
    product.pipeline(repository.url)
    first = product.start_agent("first")
    job_id = product.queue()
    wait_for(lambda: b"attempt 1 begins" in product.log(job_id))
    first.kill()
    product.start_agent("second")
    assert leases_expire() == 0, "the lease still lasts"
    with polled(50):
        assert leases_expire() == 1
        wait_for(lambda: b"attempt 2 begins" in product.log(job_id))
        stop.touch()
        job = product.until_ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)
    log = product.log(job_id)
    assert log.index(b"attempt 1 begins") < log.index(b"attempt 2 begins")


def test_an_agent_that_slept_past_its_lease_is_refused_and_drops_the_job(
    product: Product, repository: Repository
) -> None:
    stop = product.tmp_path / "stop"
    repository.define(PATIENT.format(stop=stop))
    product.pipeline(repository.url)
    sleeper = product.start_agent("sleeper")
    job_id = product.queue()
    wait_for(lambda: b"attempt 1 begins" in product.log(job_id))
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    product.start_agent("other")
    with polled(50):
        assert leases_expire() == 1
        wait_for(lambda: b"attempt 2 begins" in product.log(job_id))
        before = product.log(job_id)
        os.kill(sleeper.process.pid, signal.SIGCONT)
        # It hears with its next heartbeat, or with a 409 to its next chunk, that the attempt is not its any more.
        wait_for(
            lambda: (
                b"abandon" in sleeper.log.read_bytes() or b"no longer belongs to this agent" in sleeper.log.read_bytes()
            )
        )
        stop.touch()
        job = product.until_ended(job_id)
        assert (job["status"], job["attempt"]) == ("completed", 2)
        assert product.log(job_id).startswith(before)


def test_a_job_whose_agents_are_lost_too_often_fails(product: Product, repository: Repository) -> None:
    repository.define("echo begins; sleep 600", retries="0")
    product.pipeline(repository.url)
    agent = product.start_agent("one")
    job_id = product.queue()
    wait_for(lambda: b"begins" in product.log(job_id))
    agent.kill()
    with polled(50):
        assert leases_expire() == 1
    job = product.job(job_id)
    assert job["status"] == "failed"
    assert "lost" in job["error_message"]


def test_an_agent_that_was_killed_and_restarted_runs_its_job_again(product: Product, repository: Repository) -> None:
    stop = product.tmp_path / "stop"
    repository.define(PATIENT.format(stop=stop))
    product.pipeline(repository.url)
    agent = product.start_agent("one")
    job_id = product.queue()
    wait_for(lambda: b"attempt 1 begins" in product.log(job_id))
    agent.kill()
    product.start_agent("one", wait=False)
    with clock.shifted(LATER):
        # Its heartbeats do not name the job any more; after the lease that is proof enough.
        wait_for(lambda: b"attempt 2 begins" in product.log(job_id))
        stop.touch()
        assert product.until_ended(job_id)["status"] == "completed"


def test_a_silent_agent_becomes_unhealthy_then_dead_and_comes_back(product: Product, repository: Repository) -> None:
    agent = product.start_agent("one")
    os.kill(agent.process.pid, signal.SIGSTOP)
    # A heartbeat may be on its way; taken by the shifted clock, it would be one of the future.
    time.sleep(1)

    def status() -> str:
        return str(product.agent_list()[0]["status"])

    with clock.shifted(LATER):
        agents_mark_silent()
        assert status() == "unhealthy"
    with clock.shifted(timedelta(minutes=6)):
        agents_mark_silent()
        assert status() == "dead"
    os.kill(agent.process.pid, signal.SIGCONT)
    wait_for(lambda: status() == "healthy")
