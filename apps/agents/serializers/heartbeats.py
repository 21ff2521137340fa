"""What agents report in a heartbeat, which is the request that the control plane gets most."""

import re
from collections.abc import Mapping
from typing import Any

from apps.agents.serializers.steps import STEPS
from apps.agents.states import MAX_SLOTS
from controlplane.http.fields import ListOf, Number, Object, Text, WholeNumber, optional
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import ID_PATTERN

_ID = re.compile(ID_PATTERN)
_PERCENT = Number(0, 100)

# The failure of a machine is cut to this many characters.
MAX_FAULT = 500

JOB_ID = Text(pattern=_ID, form="a job's id")
ATTEMPT = WholeNumber(1, 1_000_000)

RUNNING = Object(
    "Running",
    "An attempt that the agent has not finished yet.",
    {"job_id": JOB_ID, "attempt": ATTEMPT, "steps": optional(STEPS, null=True)},
)

HEARTBEAT = Object(
    "Heartbeat",
    "How the agent is, what it runs and how much more it could run.",
    {
        "agent_id": Text(pattern=_ID, form="the id of the agent in the path"),
        "cpu_percent": _PERCENT,
        "memory_percent": _PERCENT,
        "disk_percent": _PERCENT,
        "jobs_queued": WholeNumber(),
        "jobs_completed": WholeNumber(),
        "uptime_seconds": Number(),
        "free_slots": optional(WholeNumber(0, MAX_SLOTS), default=0),
        "running": optional(ListOf(RUNNING, MAX_SLOTS), default=[]),
        "boot_id": optional(Text(64, about="Differs after each start of the machine."), null=True),
        "hostname": optional(Text(255), null=True),
        "fault": optional(
            Text(about=f"Why the machine is unfit for jobs now. Cut to {MAX_FAULT} characters."), null=True
        ),
        "config_version": optional(
            WholeNumber(about="The configuration that the agent has; null before it has fetched one."),
            default=0,
            null=True,
        ),
    },
)


def heartbeat_report(body: Mapping[str, Any], *, agent_id: str) -> dict[str, Any]:
    """The heartbeat in a request's JSON object as `HEARTBEAT` describes it, checked and complete.

    Raises InvalidInput that names the field, also when the heartbeat is another agent's than `agent_id`.
    """
    report = HEARTBEAT.check(body)
    if report["agent_id"] != agent_id:
        raise InvalidInput.field("agent_id", "must be the id of the agent in the path")
    fault = report["fault"]
    return {**report, "uptime_seconds": int(report["uptime_seconds"]), "fault": fault[:MAX_FAULT] if fault else None}
