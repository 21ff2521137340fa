"""Checks an export of the trail with nothing but public keys.

The export is a file of JSON Lines. A line is an event, byte by byte in its canonical form, or a seal as its copy in
object storage is. Events come by their entries and seals by their numbers. Of an export that does not begin with the
first seal, the first one is only the one that the others continue.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from apps.audit.seals import Seal, SealError, edge_check, signature_check
from apps.audit.seals.checking import Checker, Event, Tampering, Verification, Version
from apps.audit.seals.copies import copy_parse
from controlplane.lib import clock
from controlplane.lib.signing_keys import PublicKey

# How a line with a seal begins, so that most lines are parsed once only.
_SEAL_LINE = '{"seal":{'


def export_verify(
    file: Path,
    *,
    keys: Mapping[str, PublicKey],
    last: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Verification:
    """Check all seals of the file, and all events against them. With `last`, the seals must reach that time.

    Neither events nor seals are kept in memory. Raises SealError if a line is neither an event nor a seal, or if there
    is no seal, and OSError.
    """
    seals = _seals(file)
    first = next(seals, None)
    if first is None:
        raise SealError("The file has no seal. Append what manage.py audit_seals prints.")
    before: Seal | None = None
    if isinstance(first, tuple) and first[0].number > 1:
        before, first = first[0], None
        signature_check(before, keys)
        edge_check(before)
    checker = Checker(keys, before, _events(file), now=clock.epoch())
    number = before.number + 1 if before else 1
    for version in chain([first] if first else [], seals):
        if not checker.seal_take(number, version):
            break
        number += 1
        progress(checker.records)
    head = checker.before
    through = head.statement.through if head else ""
    if last is not None and through < last and not checker.is_broken:
        message = f"The seals of the file end at {through}, before {last}: the end was cut off."
        checker.report(Tampering.CUT_OFF, message, seal=number)
    checker.end(through)
    waiting = checker.skipped + checker.waiting()
    return Verification(checker.findings, head, checker.records, waiting, checker.expired)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8", newline="\n") as opened:
        for number, line in enumerate(opened, 1):
            if line.strip():
                yield number, line


def _seals(file: Path) -> Iterator[Version | SealError]:
    for number, line in _lines(file):
        if line.startswith(_SEAL_LINE):
            try:
                yield copy_parse(json.loads(line))
            except ValueError as error:
                yield SealError(f"Line {number}: {error}")


def _events(file: Path) -> Iterator[Event]:
    last = ""
    for number, line in _lines(file):
        if line.startswith(_SEAL_LINE):
            continue
        text = line.rstrip("\n")
        try:
            entry = json.loads(text)["entry"]
            # A line with a name twice, or in another form, is no event as it was sealed, whatever a reader makes of it.
            event = Event(entry, hashlib.sha256(b"\x00" + text.encode()).digest(), is_in_order=entry >= last)
        except (KeyError, TypeError, ValueError) as error:
            raise SealError(f"Line {number} is neither an event nor a seal.") from error
        last = max(last, entry)
        yield event
