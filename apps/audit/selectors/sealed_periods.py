"""What the seals say about a period, for reports: which seal ends it, and the seals of its days.

Numbers and sizes of seals only grow, so a few of them tell how many seals and events a time has.
"""

from collections.abc import Sequence

from apps.audit.models import SealRecord
from apps.audit.seals import Seal
from apps.audit.selectors.seals import events_between, first_seal, leaves_find, seal_find, seal_head, seals_numbered
from controlplane.lib.frozen import frozen


@frozen
class EndSeal:
    """The seal of the last event before a time; None if no event before it is sealed.

    It is `final` once all of these events have a seal. Then it stays the same, unless an event is written late.
    """

    seal: Seal | None
    final: bool


@frozen
class SealAt:
    """The last seal whose time ends at or before a time: its number, 0 without one; `seal` is None if it is damaged."""

    number: int
    seal: Seal | None


def end_seal(until: str) -> EndSeal:
    """The seal at the end of a period. Raises ValueError at a row that is none of a seal."""
    head = seal_head()
    found = first_seal(head, lambda seal: seal.statement.through >= until)
    if found is None:
        # The time of the last seal ends earlier: what is behind it has no seal yet.
        waits = head is None or next(events_between(head.statement.through, until, keys_only=True), None) is not None
        return EndSeal(head, not waits)
    if found.statement.through == until or any(entry < until for entry in leaves_find(found.number).entries):
        return EndSeal(found, True)
    return EndSeal(seal_find(found.number - 1), True)


def seals_at(times: Sequence[str]) -> list[SealAt]:
    """For each of these times, the last seal whose time has ended by then. A read for each doubling of their number.

    A seal that is missing or damaged counts as one that has ended, so it is found and not passed over.
    """
    head = SealRecord.query(
        SealRecord.PART, consistent_read=True, scan_index_forward=False, limit=1, attributes_to_get=["part", "place"]
    )
    last = next((int(record.place) for record in head), 0)
    spans = [(0, last) for _ in times]
    known: dict[int, Seal | None] = {0: None}
    while any(low < high for low, high in spans):
        _learn(known, {(low + high + 1) // 2 for low, high in spans if low < high})
        spans = [_narrowed(time, *span, known) for time, span in zip(times, spans, strict=True)]
    _learn(known, {low for low, _ in spans})
    return [SealAt(low, known[low]) for low, _ in spans]


def seal_digests(numbers: Sequence[int]) -> dict[int, str | None]:
    """The digests of these seals, as they are now; None for one that is missing or damaged."""
    found: dict[int, Seal | None] = {}
    _learn(found, set(numbers))
    return {number: seal.statement.digest if seal else None for number, seal in found.items()}


def _narrowed(time: str, low: int, high: int, known: dict[int, Seal | None]) -> tuple[int, int]:
    if low >= high:
        return low, high
    middle = (low + high + 1) // 2
    seal = known[middle]
    return (low, middle - 1) if seal is not None and seal.statement.through > time else (middle, high)


def _learn(known: dict[int, Seal | None], numbers: set[int]) -> None:
    """Read the seals of these numbers that are not known yet, all together."""
    wanted = numbers - known.keys()
    known |= dict.fromkeys(wanted)
    known |= seals_numbered(sorted(wanted))
