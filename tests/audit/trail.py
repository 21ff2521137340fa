"""Audit events for tests, written without the acts that they record."""

from collections.abc import Iterable
from typing import Any

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_search
from apps.audit.services import audit_event
from controlplane.lib.actor import Actor

ADA = Actor("user", "01kada0000000000000000000a", "Ada Lovelace", frozenset({"jobs.create"}))
CI = Actor("token", "01ktoken00000000000000000a", "ci (ada@example.com)", owner_id=ADA.id)
BUILDER = Actor("agent", "01kagent00000000000000000a", "builder")
STRANGER = Actor("user", "unknown", "not signed in")


def event(
    target: str = "job:x", *, actor: Actor = ADA, action: Action = Action.JOB_CREATED, **more: Any
) -> AuditRecord:
    """An event of this moment, not written."""
    return audit_event(actor=actor, action=action, target=target, **more)


def write(events: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Write the events, 25 a call; returns them."""
    written = list(events)
    with AuditRecord.batch_write() as batch:
        for found in written:
            batch.save(found)
    return written


def whole(limit: int = 50, **search: Any) -> list[AuditRecord]:
    """All pages of a search."""
    page = audit_search(limit=limit, **search)
    found = page.records
    while page.next_cursor:
        page = audit_search(limit=limit, cursor=page.next_cursor, **search)
        found += page.records
    return found
