"""How the control plane is: which of its parts need a user."""

from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.jobs.selectors.status import Health, overall, status_components
from apps.jobs.services.sweeps import sweep_note
from controlplane.lib import clock
from tests.conftest import person
from tests.dashboard.scene import Scene
from tests.metering import dynamodb_calls

SWEEP, AGENTS, QUEUE = "Tasks of each minute", "Agents", "Queue"


def found(name: str) -> tuple[str, str]:
    """The health of a part, and its message."""
    (component,) = [one for one in status_components() if one.name == name]
    return component.health.value, component.message


@pytest.fixture(autouse=True)
def _new_process(tables: None) -> None:
    cache.clear()


def test_all_is_well_while_the_sweep_runs(server: str) -> None:
    sweep_note(failed=[])
    answer = person(server, "viewer").get("/status").json()
    assert (answer["health"], {one["health"] for one in answer["components"]}) == ("ok", {"ok"})


def test_a_sweep_that_never_ran_or_stopped_is_failing() -> None:
    assert found(SWEEP)[0] == Health.FAILING
    sweep_note(failed=[])
    assert found(SWEEP)[0] == Health.OK
    with clock.shifted(timedelta(minutes=30)):
        health, message = found(SWEEP)
    assert (health, "30 minutes ago" in message) == (Health.FAILING, True)


def test_jobs_that_wait_without_a_healthy_agent_are_failing() -> None:
    scene = Scene()
    scene.pipeline()
    assert found(QUEUE) == ("ok", "No job waits for an agent.")
    scene.job()
    assert found(QUEUE)[0] == Health.FAILING
    agent = scene.agent()
    assert found(QUEUE)[0] == Health.OK
    assert found(AGENTS) == ("ok", "1 of 1 are healthy.")
    scene.heartbeat(agent.id, fault="git is missing")
    assert found(AGENTS) == ("degraded", "0 of 1 are healthy: 1 unhealthy.")
    assert overall(status_components()) == Health.FAILING


def test_its_cost_does_not_grow_with_jobs() -> None:
    scene = Scene()
    scene.pipeline()
    calls = []
    for count in (1, 20):
        for _ in range(count):
            scene.job()
        with dynamodb_calls() as metering:
            status_components()
        calls.append(metering.calls)
    assert calls[0] == calls[1] <= 10
