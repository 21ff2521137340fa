"""Exports of the trail by people: page by page for the API, and as a file on this machine."""

from datetime import UTC, date, datetime, time, timedelta

from apps.audit.actions import Action
from apps.audit.formats import Format
from apps.audit.policies import audit_read_require
from apps.audit.selectors import entry_before, entry_from
from apps.audit.selectors.holds import held_page, hold_get
from apps.audit.selectors.trail import BEGINNING, TrailSearch, settled_until, trail_page
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.frozen import frozen
from controlplane.nosql.transaction import Transaction

# A page ends before it is larger: Lambda takes answers of 6 MB, and a gateway encodes some of them.
PAGE_BYTES = 4_000_000


@frozen
class ExportPage:
    """A part of a file, in UTF-8. The export has all events before the time `until`."""

    content: bytes
    next_cursor: str | None
    until: str


def audit_export(
    *,
    actor: Actor,
    search: TrailSearch,
    form: Format,
    first: date | datetime | None = None,
    last: date | datetime | None = None,
    limit: int,
    cursor: str | None = None,
) -> ExportPage:
    """A page of an export: up to `limit` events, oldest first, and at most `PAGE_BYTES` bytes. It may be empty.

    An export is recorded in the trail with its first page; the cursors of the others are bound to the actor. All pages
    have the events before one moment, before which no event can still come.

    Raises Forbidden, and InvalidInput for a cursor that is not of this export.
    """
    audit_read_require(actor)
    scope = f"export {actor.kind}:{actor.id} {search} {form} {first} {last}"
    if cursor is None:
        place = {"after": entry_from(first) if first else BEGINNING, "until": export_end(last)}
        export_record(actor=actor, search=search, form=form, first=place["after"], until=place["until"])
    else:
        place = cursor_decode(scope, cursor)
    page = trail_page(search, after=place["after"], until=place["until"], limit=limit)
    content = bytearray() if cursor else bytearray(form.header.encode())
    following = page.next
    for number, record in enumerate(page.records):
        line = form.line(record).encode()
        if number and len(content) + len(line) > PAGE_BYTES:
            following = page.records[number - 1].entry
            break
        content += line
    return ExportPage(
        bytes(content),
        cursor_encode(scope, {**place, "after": following}) if following else None,
        place["until"],
    )


def held_export(*, actor: Actor, hold_id: str, packs: int, cursor: str | None = None) -> tuple[list[str], str | None]:
    """Some packs of the copies under a legal hold, as `apps.audit.selectors.holds.held_page` gives them.

    It is recorded in the trail with its first page, as an export is. Raises Forbidden, NotFound, and InvalidInput for a
    cursor of another hold.
    """
    audit_read_require(actor)
    hold = hold_get(hold_id)
    if cursor is None:
        tx = Transaction()
        detail = {"copies": int(hold.copies)}
        audit_add(tx, actor=actor, action=Action.AUDIT_EXPORTED, target=f"hold:{hold_id}", detail=detail)
        tx.commit()
    return held_page(hold_id, packs=packs, cursor=cursor)


def export_end(last: date | datetime | None) -> str:
    """The time before which an export ends: that after the day or of the moment `last`, or the last at which no event
    can still come.
    """
    settled = settled_until()
    if last is None or entry_before(last) >= settled:
        return settled
    if isinstance(last, datetime):
        return clock.timestamp(last)
    return clock.timestamp(datetime.combine(last + timedelta(days=1), time(), UTC))


def export_record(*, actor: Actor, search: TrailSearch, form: Format, first: str, until: str) -> None:
    """Record that someone exports the trail."""
    tx = Transaction()
    audit_add(
        tx,
        actor=actor,
        action=Action.AUDIT_EXPORTED,
        target="audit:trail",
        detail={
            "format": form.kind,
            "schema": form.schema,
            "from": first,
            "until": until,
            "of_actor": search.actor,
            "of_target": search.target,
            "of_action": search.action,
        },
    )
    tx.commit()
