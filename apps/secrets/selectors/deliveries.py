"""Who has seen a secret: its deliveries, from the audit trail, which has each one in the transaction that made it."""

from typing import Any

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from controlplane.lib.frozen import frozen


@frozen
class SeenBy:
    """One delivery of a secret. `agent` is the agent's name at that time."""

    at: str
    version: int
    fingerprint: str
    job_id: str
    attempt: int
    run_id: str
    pipeline: str
    agent_id: str
    agent: str


@frozen
class DeliveryPage:
    """A page of deliveries, newest first. `next_cursor` continues the list and is None on its last page."""

    deliveries: list[SeenBy]
    next_cursor: str | None


def secret_deliveries(secret_id: str, *, limit: int = 50, cursor: str | None = None) -> DeliveryPage:
    """The deliveries of a secret; those of the last moments may be missing. Raises InvalidInput for a wrong cursor."""
    page = audit_search(target=f"secret:{secret_id}", action=Action.SECRET_DELIVERED, limit=limit, cursor=cursor)
    return DeliveryPage([_seen_by(event) for event in page.records], page.next_cursor)


def _seen_by(event: Any) -> SeenBy:
    detail = event.detail or {}
    return SeenBy(
        at=event.at,
        version=int(detail.get("version", 0)),
        fingerprint=str(detail.get("fingerprint", "")),
        job_id=str(detail.get("job", "")),
        attempt=int(detail.get("attempt", 0)),
        run_id=str(detail.get("run", "")),
        pipeline=str(detail.get("pipeline", "")),
        agent_id=str(event.actor_id),
        agent=str(event.actor_name),
    )
