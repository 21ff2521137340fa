"""What a job asks of a machine, and where in the queue it therefore stands."""

import hashlib
import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from controlplane.lib import clock

HIGHEST_PRIORITY = 100
DEFAULT_PRIORITY = 50


def set_id(labels: Iterable[str]) -> str:
    """The partition of the queue for jobs that ask for exactly these labels; their order does not matter."""
    canonical = json.dumps({"labels": sorted(set(labels))}, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def agent_may_take(wanted: Iterable[str], offered: Collection[str]) -> bool:
    """Whether an agent that has the labels `offered` may run jobs that ask for `wanted`."""
    return set(wanted) <= set(offered)


def queue_position(*, priority: int, created_at: str, job_id: str) -> str:
    """The sort key of a waiting job: higher priority first, then the older one. The same for each of its attempts."""
    milliseconds = int(clock.parse_timestamp(created_at).timestamp() * 1000)
    return f"{HIGHEST_PRIORITY - priority:03d}#{milliseconds:013d}#{job_id}"


def position_job_id(position: str) -> str:
    """The job that stands at this position."""
    return position.rsplit("#", 1)[1]


def position_moment(position: str) -> datetime:
    """When the job that stands at this position was created, to the millisecond."""
    return datetime.fromtimestamp(int(position.split("#")[1]) / 1000, UTC)


def position_priority(position: str) -> str:
    """The part of a position that jobs of equal priority share."""
    return position.split("#", 1)[0]
