"""``manage.py audit_export FILE``: write the audit trail into a file on this machine."""

import os
import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.actions import Action
from apps.audit.formats import CSV, JSONL, NATIVE, OCSF, Format, line_event_id
from apps.audit.selectors import ACTOR, entry_from
from apps.audit.selectors.trail import BEGINNING, TrailSearch, trail_page
from apps.audit.services.exports import export_end, export_record
from controlplane.lib.actor import SYSTEM

_PAGE = 1_000
# Seconds between two lines about the progress.
_PROGRESS_SECONDS = 5
# No line is longer: a record has at most some KB.
_LINE_BYTES = 64 * 1024


class Command(BaseCommand):
    help = "Write the audit trail into a file: JSON Lines or CSV, oldest event first. It can go on where it stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the file to write; readable for its owner only")
        parser.add_argument("--from", dest="first", type=_day_or_moment, metavar="DAY", help="a day (UTC) or a time")
        parser.add_argument("--to", dest="last", type=_day_or_moment, metavar="DAY", help="the last day, or a time")
        parser.add_argument("--format", choices=[JSONL, CSV], default=JSONL)
        parser.add_argument("--schema", choices=[NATIVE, OCSF], default=NATIVE, help="whose names the fields have")
        parser.add_argument("--actor", type=_actor, help="user:<id>, token:<id>, agent:<id> or system")
        parser.add_argument("--target", help="such as job:<id>")
        parser.add_argument("--action", choices=list(Action), metavar="ACTION", help="such as user.signed_in")
        parser.add_argument("--resume", action="store_true", help="go on behind the file's last whole line")

    def handle(self, *args: Any, file: Path, first: Any, last: Any, resume: bool, **options: Any) -> None:
        form = Format(options["format"], options["schema"])
        search = TrailSearch(options["actor"], options["target"], options["action"])
        after, until = entry_from(first) if first else BEGINNING, export_end(last)
        with _opened(file, resume=resume) as opened:
            after = max(after, _last_entry(opened, form) or after)
            export_record(actor=SYSTEM, search=search, form=form, first=after, until=until)
            if opened.tell() == 0:
                opened.write(form.header.encode())
            count = self._write(opened, search, form, after, until)
        self.stdout.write(f"{count} events before {until} written to {file}.")

    def _write(self, opened: IO[bytes], search: TrailSearch, form: Format, after: str, until: str) -> int:
        count, begun = 0, time.monotonic()
        shown = begun
        place: str | None = after
        while place is not None:
            page = trail_page(search, after=place, until=until, limit=_PAGE)
            opened.write("".join(map(form.line, page.records)).encode())
            count += len(page.records)
            place = page.next
            now = time.monotonic()
            if now - shown >= _PROGRESS_SECONDS:
                shown = now
                rate = count / (now - begun)
                self.stderr.write(f"{count} events, {rate:,.0f} a second, at {(place or until)[:19]}")
        opened.flush()
        os.fsync(opened.fileno())
        return count


def _opened(file: Path, *, resume: bool) -> IO[bytes]:
    """The file, new, or with `resume` as it is. Raises CommandError."""
    flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL)
    try:
        return os.fdopen(os.open(file, flags, 0o600), "r+b")
    except FileExistsError:
        raise CommandError(f"{file} exists. Add --resume to go on with it, or name another file.") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from error


def _last_entry(opened: IO[bytes], form: Format) -> str | None:
    """The id of the last event in the file, behind which it is cut: an interrupted export may have half a line there.

    None if there is none. Raises CommandError for a file of another format.
    """
    size = opened.seek(0, os.SEEK_END)
    start = max(0, size - 2 * _LINE_BYTES)
    opened.seek(start)
    tail = opened.read()
    whole = tail[: tail.rfind(b"\n") + 1]
    if size and not whole and start:
        raise CommandError("The file is no export of the audit trail.")
    opened.truncate(start + len(whole))
    opened.seek(0, os.SEEK_END)
    line = whole.rstrip(b"\r\n").rpartition(b"\n")[2].decode(errors="replace")
    if not line or line == form.header.rstrip("\r\n"):
        return None
    try:
        entry = line_event_id(line, form)
    except ValueError:
        entry = ""
    if not entry.startswith("2"):
        raise CommandError("The file's last line is no event of this format. Name the format that it was written in.")
    return entry


def _actor(text: str) -> str:
    if not re.fullmatch(ACTOR, text):
        raise ArgumentTypeError(f"must be user:<id>, token:<id>, agent:<id> or system, not {text!r}")
    return text


def _day_or_moment(text: str) -> date | datetime:
    try:
        if len(text) == len("2026-11-21"):
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"must be a day, as 2026-11-21, or a time, as 2026-11-21T09:30Z, not {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
