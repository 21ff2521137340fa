"""Whether an agent's machine is fit for work, by its last report and by how its last attempts ended."""

from collections.abc import Mapping
from typing import Any

from apps.agents.models import Heartbeat
from apps.agents.states import DISK_FULL_PERCENT, DISK_ROOM_PERCENT, MOST_IN_A_ROW, PAUSE
from controlplane.lib import clock


def unfit_reason(heartbeat: Heartbeat, report: Mapping[str, Any]) -> str | None:
    """Why the machine that sends `report` gets no work, as a sentence; None if it is fit.

    `heartbeat` is the agent's item, from which only its status and what the last attempts have shown are read.
    """
    if report.get("fault"):
        return str(report["fault"])
    limit = DISK_ROOM_PERCENT if heartbeat.status_reason else DISK_FULL_PERCENT
    if report["disk_percent"] >= limit:
        return f"The disk is full: {DISK_FULL_PERCENT} % or more of it is in use. Make room."
    if _pauses(heartbeat.faults, heartbeat.fault_at):
        return f"{MOST_IN_A_ROW} jobs in a row failed because of this machine. The last time: {heartbeat.fault_reason}"
    if _pauses(heartbeat.ignored, heartbeat.ignored_at):
        return f"The agent took {MOST_IN_A_ROW} jobs in a row and did not start them."
    return None


def _pauses(count: float, last_at: str | None) -> bool:
    if count < MOST_IN_A_ROW or last_at is None:
        return False
    return clock.now() - clock.parse_timestamp(last_at) < PAUSE
