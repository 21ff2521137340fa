"""Whether the database answers, for health checks from outside."""

import time

from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import table_name

# How long a successful check counts. The endpoint is public, so frequent requests must not cost more.
ANSWER_COUNTS_SECONDS = 5

# No job has this id, so the read finds nothing and costs half a read unit.
_TABLE, _KEY = "jobs", {"job_id": {"S": "!ready"}}

_answered_at: float | None = None


def database_require() -> None:
    """Read from the database, unless this process has done so in the last seconds. Raises Unavailable."""
    global _answered_at
    if _answered_at is not None and time.monotonic() - _answered_at < ANSWER_COUNTS_SECONDS:
        return
    shared_connection()._make_api_call("GetItem", {"TableName": table_name(_TABLE), "Key": _KEY})
    _answered_at = time.monotonic()
