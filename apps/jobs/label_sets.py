"""Label sets: the labels that a job requires of its agent, and the job's position in the queue of its label set."""

import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from controlplane.lib import clock

HIGHEST_PRIORITY = 100
DEFAULT_PRIORITY = 50


def set_id(labels: Iterable[str]) -> str:
    """The id of the label set, which is a partition of the queue. The order of the labels does not matter."""
    canonical = json.dumps({"labels": sorted(set(labels))}, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def agent_may_take(wanted: Iterable[str], offered: Collection[str]) -> bool:
    """Whether an agent with the labels `offered` may run jobs that require the labels `wanted`."""
    return set(wanted) <= set(offered)


def queue_position(*, priority: int, created_at: str, job_id: str) -> str:
    """The sort key of a waiting job: higher priority first, then older jobs first. Equal for each of its attempts."""
    milliseconds = int(clock.parse_timestamp(created_at).timestamp() * 1000)
    return f"{HIGHEST_PRIORITY - priority:03d}#{milliseconds:013d}#{job_id}"


def position_job_id(position: str) -> str:
    """The id of the job at this position."""
    return position.rsplit("#", 1)[1]


def position_moment(position: str) -> datetime:
    """When the job at this position was created, to the millisecond."""
    return datetime.fromtimestamp(int(position.split("#")[1]) / 1000, UTC)


def position_priority(position: str) -> str:
    """The prefix of a position that jobs of equal priority share."""
    return position.split("#", 1)[0]
