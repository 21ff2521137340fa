"""Checks at GitLab: commit statuses, which its pages show as external jobs of a pipeline.

https://docs.gitlab.com/ee/api/commits.html#set-the-pipeline-status-of-a-commit
"""

from urllib.parse import quote

from apps.sources.models import Connection
from apps.sources.providers.calls import ProviderRefused
from apps.sources.providers.gitlab.calls import project_call
from apps.sources.providers.interface import Check
from apps.sources.providers.statuses import STATUS_ID, check_line, check_state

_STATES = {
    "queued": "pending",
    "in_progress": "running",
    "failure": "failed",
    "timed_out": "failed",
    "action_required": "failed",
    "cancelled": "canceled",
}


def check_send(connection: Connection, check: Check) -> str | None:
    """Show the check as a commit status."""
    body = {
        # What ended otherwise, such as skipped, holds nothing up. Older servers have no such state.
        "state": _STATES.get(check_state(check), "success"),
        "name": check.name,
        "description": check_line(check),
        # Without it, GitLab looks for a branch that has the commit, and refuses one that only a fork has.
        **({"ref": check.ref} if check.ref else {}),
        **({"target_url": check.details_url} if check.details_url else {}),
    }
    path = f"/statuses/{quote(check.commit, safe='')}"
    reply = project_call(connection, "POST", check.repository, path, body=body, accept=(400,))
    # GitLab refuses a state that the status has already: an earlier call has arrived.
    if reply.status == 400 and b"cannot transition status" not in reply.body.lower():
        raise ProviderRefused(
            f"GitLab does not accept the status of {check.repository}: {reply.body[:200].decode(errors='replace')}",
            http_status=400,
        )
    return STATUS_ID
