"""Checks at Gitea and Forgejo: commit statuses.

https://docs.gitea.com/api/#tag/repository/operation/repoCreateStatus
"""

from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.gitea.calls import repository_call
from apps.sources.providers.interface import Check
from apps.sources.providers.statuses import STATUS_ID, check_line, check_state

_STATES = {
    "queued": "pending",
    "in_progress": "pending",
    "failure": "failure",
    "timed_out": "failure",
    "action_required": "failure",
    "cancelled": "error",
}


def check_send(connection: Connection, check: Check) -> str | None:
    """Show the check as a commit status. The newest one of a name counts, so that a repeated one changes nothing."""
    body = {
        # What ended otherwise, such as skipped, holds nothing up.
        "state": _STATES.get(check_state(check), "success"),
        "context": check.name,
        "description": check_line(check),
        **({"target_url": check.details_url} if check.details_url else {}),
    }
    repository_call(connection, "POST", check.repository, f"/statuses/{quote(check.commit, safe='')}", body=body)
    return STATUS_ID
