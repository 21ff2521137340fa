"""Checking heartbeats. Plain functions, since this is what the control plane does most."""

import re
from collections.abc import Mapping
from typing import Any

from apps.agents.states import STEP_STATES
from controlplane.http import json_values
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import ID_PATTERN

MAX_RUNNING = 64

_COUNT = 2**53
_ID = re.compile(ID_PATTERN)


def heartbeat_report(body: Mapping[str, Any], *, agent_id: str) -> dict[str, Any]:
    """The heartbeat in a request's JSON object, checked and complete, for `heartbeat_record`.

    `free_slots` (0), `running` ([]) and `config_version` (0) may be missing; other members are ignored. Raises
    InvalidInput that names the field, also when the heartbeat is another agent's than `agent_id`.
    """
    if body.get("agent_id") != agent_id:
        raise InvalidInput.field("agent_id", "is not the agent of this path")
    percents = {name: _number(body, name, most=100) for name in ("cpu_percent", "memory_percent", "disk_percent")}
    counts = {name: _count(body.get(name), name) for name in ("jobs_queued", "jobs_completed")}
    running = body.get("running", [])
    if not isinstance(running, list) or len(running) > MAX_RUNNING:
        raise InvalidInput.field("running", f"is a list of at most {MAX_RUNNING} jobs")
    return {
        **percents,
        **counts,
        "uptime_seconds": int(_number(body, "uptime_seconds", most=_COUNT)),
        "free_slots": _count(body.get("free_slots", 0), "free_slots", most=MAX_RUNNING),
        "config_version": _count(body.get("config_version") or 0, "config_version"),
        "running": [_running(entry, f"running[{number}]") for number, entry in enumerate(running)],
    }


def _running(entry: Any, field: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InvalidInput.field(field, "is an object")
    job_id = entry.get("job_id")
    if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
        raise InvalidInput.field(f"{field}.job_id", "is no id of a job")
    checked = {"job_id": job_id, "attempt": _count(entry.get("attempt"), f"{field}.attempt", least=1)}
    steps = entry.get("steps")
    if steps is None:
        return checked
    return {**checked, "steps": json_values.steps(steps, f"{field}.steps", states=STEP_STATES)}


def _number(body: Mapping[str, Any], field: str, *, most: int) -> int | float:
    """A number of 0 to `most`, to one decimal place."""
    value = body.get(field)
    # A comparison with NaN is false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidInput.field(field, f"is a number of 0 to {most}")
    return round(value, 1)


def _count(value: Any, field: str, *, least: int = 0, most: int = _COUNT) -> int:
    return json_values.whole_number(value, field, least=least, most=most)
