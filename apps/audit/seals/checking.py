"""Checks the trail against its seals, one seal after the other, and says what was done to it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from apps.audit.seals import Leaves, Seal, SealError, chain_check, leaves_check
from controlplane.lib.frozen import frozen
from controlplane.lib.signing_keys import PublicKey

# So many findings are kept. One is enough to know, and the rest says how much was changed.
MOST_FINDINGS = 100


class Tampering(StrEnum):
    """What was done to an event, or to a seal."""

    EDITED = "edited"
    DELETED = "deleted"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CUT_OFF = "cut off the end"
    SEAL = "seal changed"


@frozen
class Finding:
    """What was found: `event` is the entry of an event, and `seal` the number of a seal, if it concerns one."""

    kind: Tampering
    message: str
    event: str | None = None
    seal: int | None = None


class Event(NamedTuple):
    """An event of the trail as it is now: its entry, and the hash of its leaf. A check makes millions.

    `is_in_place` says whether it is in the partition that its entry names, `is_in_order` whether it comes behind all
    events with smaller entries.
    """

    entry: str
    leaf: bytes
    is_in_place: bool = True
    is_in_order: bool = True


@frozen
class Verification:
    """What a check has found. `head` is the last seal that was checked, None if there is none.

    `records` events were compared with their leaves. `waiting` events are behind the last seal, or before the first one
    that an export has. `expired` ones are gone, and their time of expiry, which was sealed with them, is over.
    """

    findings: list[Finding]
    head: Seal | None
    records: int
    waiting: int
    expired: int = 0


# A version of a seal with its leaves, from the table or from object storage.
Version = tuple[Seal, Leaves]


@dataclass
class Checker:
    """The state of a check. Give it each seal with `seal_take`, in their order, then call `end`.

    `keys` are the public keys by their digests; `before` is the seal before the first one that is checked; `events` are
    all events from its end on, by their entries. `copies` gives the copy of a seal, or None. `find` gives an event from
    before that, or None. `now` is in seconds since 1970: events that expired before may be gone.
    """

    keys: Mapping[str, PublicKey]
    before: Seal | None
    events: Iterator[Event]
    copies: Callable[[int], Version | None] = lambda _: None
    find: Callable[[str], Event | None] = lambda _: None
    now: float = 0
    findings: list[Finding] = field(default_factory=list)
    records: int = 0
    expired: int = 0
    # Events from before what is checked.
    skipped: int = 0
    # Events that are in no seal so far: late ones are in a later one.
    unmatched: dict[str, bytes] = field(default_factory=dict)
    is_broken: bool = False
    since: str = ""
    _next: Event | None = None
    _last: str = ""
    _moved: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.since = self.before.statement.through if self.before else ""
        self._advance()
        while self._next is not None and self._next.entry < self.since:
            self.skipped += 1
            self._advance()

    def seal_take(self, number: int, stored: Version | SealError | None) -> bool:
        """Check the seal of this number as the table has it (None: it has none) and its events.

        False if neither the table nor object storage has what was sealed: then nothing later can be checked.
        """
        found = self._right(number, stored)
        if found is None:
            self.is_broken = True
            return False
        seal, leaves = found
        self._compare(seal, leaves)
        self.before = seal
        return True

    def follow(self, number: int, stored: Version | SealError | None) -> bool:
        """Check a seal behind those whose events are checked: its signature and its place. False if it is wrong.

        Its late events may be the ones that are in no seal so far.
        """
        try:
            if not isinstance(stored, tuple):
                raise stored or SealError(f"Seal {number} is missing.")
            seal, leaves = stored
            chain_check(seal, self.before, self.keys)
        except SealError as error:
            self.report(Tampering.SEAL, str(error), seal=number)
            return False
        for entry in leaves.entries[len(leaves.entries) - seal.statement.late :]:
            self.unmatched.pop(entry, None)
        self.before = seal
        return True

    def end(self, through: str) -> None:
        """Report the events before the entry `through` that no seal has, and put the findings in their order."""
        if not self.is_broken:
            self._skip_to(through)
            for entry in sorted(self.unmatched):
                self.report(Tampering.INSERTED, f"{entry} was inserted: no seal has it.", event=entry)
        gone = (Tampering.DELETED, Tampering.CUT_OFF)
        self.findings = [each for each in self.findings if each.kind not in gone or each.event not in self._moved]
        self.findings.sort(key=lambda finding: (finding.event or "~", finding.seal or 0))

    def waiting(self) -> int:
        """How many events are behind the last seal: they are not sealed yet."""
        count = 0
        while self._next is not None:
            count += 1
            self._advance()
        return count

    def _right(self, number: int, stored: Version | SealError | None) -> Version | None:
        """The version of the seal that is what was sealed; reports if it is not that of the table."""
        problem = self._problem(stored)
        if problem is None and isinstance(stored, tuple):
            return stored
        copy = self.copies(number)
        if copy is not None and self._problem(copy) is None:
            self._seal_report(number, stored, problem, copy)
            return copy
        if isinstance(stored, tuple):
            ordered = (stored[0], _ordered(*stored))
            if self._problem(ordered) is None:
                self._seal_report(number, stored, problem, ordered)
                return ordered
        event = stored[1].entries[0] if isinstance(stored, tuple) and stored[1].entries else None
        self.report(Tampering.SEAL, problem or f"Seal {number} is missing.", event=event, seal=number)
        return None

    def _problem(self, version: Version | SealError | None) -> str | None:
        """Why this version is not what was sealed; None if it is. An empty text says that there is none."""
        if not isinstance(version, tuple):
            return str(version or "")
        seal, leaves = version
        try:
            chain_check(seal, self.before, self.keys)
            leaves_check(seal, self.before, leaves)
        except SealError as error:
            return str(error)
        return None

    def _seal_report(
        self, number: int, stored: Version | SealError | None, problem: str | None, right: Version
    ) -> None:
        event = next(iter(right[1].entries), None)
        if not isinstance(stored, tuple):
            message = problem or f"Seal {number} was deleted."
            self.report(Tampering.SEAL, f"{message} Its copy in object storage is whole.", event=event, seal=number)
            return
        entries, expected = stored[1].entries, right[1].entries
        kind = Tampering.SEAL
        if entries != expected and sorted(entries) == sorted(expected):
            kind = Tampering.REORDERED
            event = next(entry for entry, other in zip(entries, expected, strict=True) if entry != other)
        self.report(kind, problem or "", event=event, seal=number)

    def _compare(self, seal: Seal, leaves: Leaves) -> None:
        """Compare the events with the leaves of their seal."""
        pairs = list(zip(leaves.entries, leaves.hashes, leaves.expiries, strict=True))
        number = seal.number
        in_time = len(pairs) - seal.statement.late
        for entry, leaf, expiry in pairs[:in_time]:
            self._skip_to(entry)
            found = self._next
            if found is None or found.entry != entry:
                self._gone(entry, number, expiry)
                continue
            self._match(entry, leaf, found.leaf, number)
            self._advance()
        self._skip_to(seal.statement.through)
        for entry, leaf, expiry in pairs[in_time:]:
            late = self.unmatched.pop(entry, None)
            if late is None and entry < self.since:
                event = self.find(entry)
                late = event.leaf if event else None
            if late is None:
                self._gone(entry, number, expiry)
            else:
                self._match(entry, leaf, late, number)

    def _match(self, entry: str, leaf: bytes, found: bytes, number: int) -> None:
        self.records += 1
        if leaf != found:
            self.report(Tampering.EDITED, f"{entry} was edited.", event=entry, seal=number)

    def _gone(self, entry: str, number: int, expiry: int) -> None:
        if 0 < expiry <= self.now:
            self.expired += 1
            return
        is_end = self._next is None and entry > self._last
        if is_end and any(finding.kind == Tampering.CUT_OFF for finding in self.findings):
            return
        message = f"{entry} and all events after it were cut off the end." if is_end else f"{entry} was deleted."
        self.report(Tampering.CUT_OFF if is_end else Tampering.DELETED, message, event=entry, seal=number)

    def _skip_to(self, entry: str) -> None:
        """Keep the events before this entry as such that are in no seal so far."""
        while self._next is not None and self._next.entry < entry:
            self.unmatched[self._next.entry] = self._next.leaf
            self._advance()

    def _advance(self) -> None:
        """Go on to the next event. One that is not where its entry says, or that comes twice, is no event of ours."""
        for event in self.events:
            if not event.is_in_order:
                self._moved.add(event.entry)
                self.report(Tampering.REORDERED, f"{event.entry} was moved.", event=event.entry)
            elif not event.is_in_place or event.entry == self._last:
                self.report(Tampering.INSERTED, f"{event.entry} was inserted.", event=event.entry)
            else:
                self._next, self._last = event, event.entry
                return
        self._next = None

    def report(self, kind: Tampering, message: str, *, event: str | None = None, seal: int | None = None) -> None:
        """Keep a finding."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind, message, event, seal))


def _ordered(seal: Seal, leaves: Leaves) -> Leaves:
    """The leaves in the order of a seal: by their entries, and then the late ones by theirs."""
    pairs = sorted(zip(leaves.lines, leaves.hashes, strict=True))
    late = [pair for pair in pairs if pair[0] < seal.statement.since]
    in_time = [pair for pair in pairs if pair[0] >= seal.statement.since]
    return Leaves.of([line for line, _ in (*in_time, *late)], [leaf for _, leaf in (*in_time, *late)])
