"""Reading the trail."""

from dataclasses import dataclass

from apps.audit.models import AuditRecord
from controlplane.lib.cursors import cursor_decode, cursor_encode


@dataclass(frozen=True)
class AuditPage:
    """Records, newest first; `next_cursor` continues the list, or is None at its end."""

    records: list[AuditRecord]
    next_cursor: str | None


def audit_list(*, day: str, limit: int = 50, cursor: str | None = None) -> AuditPage:
    """The acts of a day (``YYYY-MM-DD``, UTC), newest first, read consistently: a record is there once its act is.

    Raises InvalidInput for a cursor that is not of this list.
    """
    scope = f"audit:{day}"
    start = cursor_decode(scope, cursor) if cursor else None
    found = AuditRecord.query(
        day,
        scan_index_forward=False,
        consistent_read=True,
        limit=limit,
        last_evaluated_key={"day": {"S": day}, "entry": {"S": start["entry"]}} if start else None,
    )
    records = list(found)
    more = found.last_evaluated_key is not None
    return AuditPage(records, cursor_encode(scope, {"entry": records[-1].entry}) if more and records else None)
