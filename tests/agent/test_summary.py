"""A heartbeat never outgrows what the control plane takes, and still says what runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.protocol import MAX_SLOTS
from agent.summary import LIMIT_BYTES, running_summary
from apps.agents.models.heartbeat import RUNNING_LIMIT_BYTES, RunningAttribute
from apps.agents.serializers.heartbeats import heartbeat_report
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT
from controlplane.lib.steps import MAX_STEP_NAME, MAX_STEPS

JOB = "01kahtnvg00000000000000000"
AT = "2026-11-21T08:15:30.123000Z"
REST = {
    **dict.fromkeys(("cpu_percent", "memory_percent", "disk_percent", "jobs_queued", "jobs_completed"), 1),
    "agent_id": JOB,
    "uptime_seconds": 1,
}


def steps(name: str, ended: int, count: int = MAX_STEPS) -> list[dict[str, Any]]:
    """Steps of which `ended` have ended and one runs."""

    def step(number: int) -> dict[str, Any]:
        state = "completed" if number < ended else "running" if number == ended else "pending"
        return {
            "name": f"{number} {name}"[:MAX_STEP_NAME],
            "state": state,
            "exit_code": 0 if number < ended else None,
            "started_at": AT if number <= ended else None,
            "completed_at": AT if number < ended else None,
        }

    return [step(number) for number in range(count)]


def entries(jobs: int, all_steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"job_id": JOB, "attempt": attempt + 1, "steps": all_steps} for attempt in range(jobs)]


def size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", ["x", "build the whole thing", "ä" * 100, "🚀" * 100, "\x01" * 100, '"' * 100])
@pytest.mark.parametrize("jobs", [1, 2, 8, MAX_SLOTS])
@pytest.mark.parametrize("ended", [0, 50, 99, 100])
def test_a_heartbeat_never_outgrows_the_body_limit_and_the_control_plane_stores_its_steps(
    name: str, jobs: int, ended: int
) -> None:
    summary = running_summary(entries(jobs, steps(name, ended)))
    assert size(summary) <= LIMIT_BYTES < AGENT_BODY_LIMIT // 10
    report = heartbeat_report({**REST, "running": summary}, agent_id=JOB)
    assert [entry["attempt"] for entry in report["running"]] == list(range(1, jobs + 1))
    stored = RunningAttribute().serialize(report["running"])
    assert len(stored.encode()) <= RUNNING_LIMIT_BYTES
    for entry in RunningAttribute().deserialize(stored):
        states = [step["state"] for step in entry["steps"]]
        # What the dashboard shows first of all: the step that runs, with its whole name and since when it runs.
        assert states.count("running") == (ended < MAX_STEPS)
        running = [step for step in entry["steps"] if step["state"] == "running"]
        assert all((step["name"], step["started_at"]) == (f"{ended} {name}"[:MAX_STEP_NAME], AT) for step in running)


def test_ordinary_heartbeats_are_complete() -> None:
    for jobs, count in ((1, MAX_STEPS), (8, 10), (16, 20), (MAX_SLOTS, 4)):
        complete = entries(jobs, steps("unit tests of the server", ended=3, count=count))
        assert running_summary(complete) == complete


def test_the_first_that_goes_are_the_times_of_ended_steps() -> None:
    (entry, *_) = running_summary(entries(6, steps("unit tests", ended=60)))
    assert len(entry["steps"]) == MAX_STEPS
    assert entry["steps"][0] == {"name": "0 unit tests", "state": "completed"}
    assert entry["steps"][60]["started_at"] == AT


def test_then_neighbouring_steps_of_one_state_become_one_entry() -> None:
    (entry, *_) = running_summary(entries(30, steps("unit tests", ended=60)))
    assert [(step["name"], step["state"]) for step in entry["steps"]] == [
        ("0 unit tests … 59 unit tests (60 steps)", "completed"),
        ("60 unit tests", "running"),
        ("61 unit tests … 99 unit tests (39 steps)", "pending"),
    ]


def test_then_only_the_current_step_is_left() -> None:
    (entry, *_) = running_summary(entries(MAX_SLOTS, steps("🚀" * 100, ended=60)))
    (step,) = entry["steps"]
    assert (step["state"], step["started_at"]) == ("running", AT)
