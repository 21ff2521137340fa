"""Whether an id is of a run or of a job."""

from __future__ import annotations

from hci import endpoints
from hci.client import ApiError, Client, Json
from hci.endpoints import Endpoint
from hci.errors import Exit, NotThere


def run_or_job(client: Client, identifier: str) -> tuple[str, Json]:
    """`run` or `job`, and the thing itself. Raises NotThere."""
    found = _found(client, endpoints.JOB, job_id=identifier)
    if found is not None:
        return "job", found
    found = _found(client, endpoints.RUN, run_id=identifier)
    if found is not None:
        return "run", found
    raise NotThere(f"There is no run and no job {identifier[:100]}.")


def _found(client: Client, endpoint: Endpoint, **path: str) -> Json | None:
    try:
        return client.json(endpoint, **path)
    except ApiError as error:
        if error.exit_code != Exit.NOT_FOUND:
            raise
        return None
