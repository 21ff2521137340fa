"""Writes the audit trail to a file, page by page, so that an interrupted export goes on where it was."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hci import endpoints
from hci.client import Answer, Client
from hci.errors import BadAnswer, HciError, UsageProblem
from hci.files import private_read, private_write

_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')


def next_cursor(answer: Answer) -> str | None:
    """The cursor in the header Link. Its address is not followed: it could be of another host."""
    found = _NEXT.search(answer.headers.get("Link", ""))
    if not found:
        return None
    cursors = parse_qs(urlsplit(found[1]).query).get("cursor", [])
    if len(cursors) != 1:
        raise BadAnswer("The control plane names a next page without its cursor.")
    return cursors[0]


@dataclass
class ExportFile:
    """A file that grows by pages, and beside it how far it is: ``FILE.resume``, until the export is complete."""

    path: Path

    @property
    def _state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.resume")

    def begin(self) -> None:
        """Start an empty file for the user alone. Raises HciError if there is one."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise UsageProblem(
                f"{self.path} exists already.", hints=("To go on with an interrupted export, give --resume.",)
            ) from None
        except OSError as error:
            raise HciError(f"{self.path} cannot be written: {error.strerror}.") from error

    def resume(self, query: dict[str, Any]) -> str | None:
        """Cut what was written of an unfinished page. Returns the cursor of the next one. Raises HciError."""
        content = private_read(self._state, secret=True)
        if content is None:
            raise UsageProblem(f"There is no interrupted export in {self.path}.")
        try:
            found = json.loads(content)
            size, cursor, before = int(found["size"]), found["cursor"], found["query"]
        except (ValueError, KeyError, TypeError):
            raise UsageProblem(f"{self._state} is damaged. Begin the export anew.") from None
        if before != query:
            raise UsageProblem("The interrupted export had other filters. Give the same ones.")
        try:
            if self.path.stat().st_size < size:
                raise UsageProblem(f"{self.path} is shorter than it was. Begin the export anew.")
            os.truncate(self.path, size)
        except OSError as error:
            raise HciError(f"{self.path} cannot be written: {error.strerror}.") from error
        return cursor if isinstance(cursor, str) else None

    def add(self, content: bytes, *, query: dict[str, Any], following: str | None) -> None:
        """Write a page through to the disk, and then where the next one begins."""
        try:
            with self.path.open("ab") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
                size = opened.tell()
            if following is None:
                self._state.unlink(missing_ok=True)
                return
        except OSError as error:
            raise HciError(f"{self.path} cannot be written: {error.strerror}.") from error
        private_write(self._state, json.dumps({"query": query, "cursor": following, "size": size}))


def export_pages(client: Client, query: dict[str, Any], file: ExportFile | None, *, resume: bool, say: Any) -> int:
    """Export to the file, or by `say` to standard output. Returns the number of bytes."""
    cursor = None
    if file is not None:
        if resume:
            cursor = file.resume(query)
        else:
            file.begin()
    written = 0
    while True:
        answer = client.call(endpoints.AUDIT_EXPORT, query={**query, "cursor": cursor})
        following = next_cursor(answer)
        if following is not None and following == cursor:
            raise BadAnswer("The export does not end: its next page is the same one.")
        written += len(answer.content)
        if file is None:
            say(answer.content)
        else:
            file.add(answer.content, query=query, following=following)
        if following is None:
            return written
        cursor = following
