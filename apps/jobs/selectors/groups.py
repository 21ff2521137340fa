"""Reading concurrency groups. All reads are consistent."""

from dataclasses import dataclass

from apps.jobs.models import LINE, SLOT, STATE, GroupRow

# How many members are read to say who they are.
_NAMED = 10


@dataclass(frozen=True)
class GroupFront:
    """A group as it is at this moment: how many slots are taken, and the first in its line."""

    taken: int
    revision: int
    first: GroupRow | None


def group_front(group: str) -> GroupFront:
    """How many slots of the group are taken, and who is next. One call."""
    rows = list(GroupRow.query(group, GroupRow.place < SLOT, limit=2, page_size=2, consistent_read=True))
    state = next((row for row in rows if row.place == STATE), None)
    first = next((row for row in rows if row.place != STATE), None)
    return GroupFront(int(state.taken or 0) if state else 0, int(state.revision or 0) if state else 0, first)


def group_slots(group: str) -> list[GroupRow]:
    """Those that have a slot of the group, or ten of them. One call."""
    has_slot = GroupRow.place.startswith(SLOT)
    return list(GroupRow.query(group, has_slot, limit=_NAMED, page_size=_NAMED, consistent_read=True))


def group_line_before(group: str, place: str) -> int:
    """How many wait in the group's line before this place, 100 at most. One call."""
    return GroupRow.count(group, GroupRow.place.between(LINE, place), limit=100, consistent_read=True) - 1
