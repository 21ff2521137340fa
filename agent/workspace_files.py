"""Files of a workspace that patterns name. Links are never followed, so no path leads out of the workspace.

A pattern is a path relative to the workspace. `*` and `?` match within one name, `[a-z]` matches one character, `**`
matches any number of folders. A pattern that matches a folder means everything in it. `!` before a pattern excludes
what it matches. The repository's own `.git` is never matched, nor is `.hybrid-ci`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Optional

# In which `exec` keeps artifacts and caches.
LOCAL_FOLDER = ".hybrid-ci"

MAX_DEPTH = 200
MAX_ENTRIES = 500_000
READ_BYTES = 1024 * 1024

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe must not block.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# At the top: the repository itself, and what `exec` keeps in a checkout.
_NEVER = (".git", LOCAL_FOLDER)


class FilesUnusable(Exception):
    """The files cannot be packed or hashed as they are, or a pattern is not valid. The message says why."""


@dataclass(frozen=True)
class Entry:
    """What a pattern matches: a file, folder, link or something else. `folder` is open until the next entry."""

    path: str
    name: str
    folder: int
    found: os.stat_result


class _Pattern:
    """Matches paths one name after another. A state is the set of positions that the names so far can lead to."""

    def __init__(self, text: str) -> None:
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if text.startswith(("/", "~")) or ".." in parts or "\0" in text:
            raise FilesUnusable(f"{text!r} must be a path in the workspace, without a leading / and without ..")
        self._parts = parts
        self.start = self._closure({0})

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        if self.is_match(state):
            return state
        after = set()
        for position in state:
            part = self._parts[position]
            if part == "**":
                after.add(position)
            elif fnmatchcase(name, part):
                after.add(position + 1)
        return self._closure(after)

    def is_match(self, state: frozenset[int]) -> bool:
        return len(self._parts) in state

    def _closure(self, positions: set[int]) -> frozenset[int]:
        """The positions, and those after a `**`, which may also match no folder at all."""
        complete = set(positions)
        for position in range(len(self._parts)):
            if position in complete and self._parts[position] == "**":
                complete.add(position + 1)
        return frozenset(complete)


class Patterns:
    """Patterns of one list, those with `!` included."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises FilesUnusable if a pattern is not valid."""
        self.texts = [text for text in patterns if not text.startswith("!")]
        self._wanted = [_Pattern(text) for text in self.texts]
        self._unwanted = [_Pattern(text[1:]) for text in patterns if text.startswith("!")]
        # The patterns that have matched something.
        self._used: set[int] = set()

    def unused(self) -> list[str]:
        """The patterns that have matched nothing so far."""
        return [text for index, text in enumerate(self.texts) if index not in self._used]

    def match(self, path: str) -> bool:
        """Whether a path, or a folder that it is in, matches."""
        is_match = False
        for pattern in (*self._wanted, *self._unwanted):
            state = pattern.start
            for name in path.split("/"):
                state = pattern.step(state, name)
            if pattern.is_match(state):
                if pattern in self._unwanted:
                    return False
                is_match = True
        return is_match

    def walk(self, workspace: Path, check: Callable[[], None] = lambda: None) -> Iterator[Entry]:
        """What the patterns match, in a fixed order, folders before what is in them.

        `check` is called often; it may raise. Raises FilesUnusable if there is too much of it, and OSError.
        """
        top = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            states = [pattern.start for pattern in (*self._wanted, *self._unwanted)]
            for count, entry in enumerate(self._walk(top, "", states, check)):
                if count >= MAX_ENTRIES:
                    raise FilesUnusable(f"there are more than {MAX_ENTRIES:,} files")
                yield entry
        finally:
            os.close(top)

    def _walk(
        self, folder: int, prefix: str, states: list[frozenset[int]], check: Callable[[], None]
    ) -> Iterator[Entry]:
        if prefix.count("/") > MAX_DEPTH:
            raise FilesUnusable(f"the folders are nested more than {MAX_DEPTH} deep")
        for name in _names(folder):
            check()
            if not prefix and name in _NEVER:
                continue
            after = [pattern.step(state, name) for pattern, state in zip((*self._wanted, *self._unwanted), states)]
            matches = self._matches(after)
            if matches is None:
                continue
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = f"{prefix}{name}"
            if matches:
                yield Entry(path, name, folder, found)
            if stat.S_ISDIR(found.st_mode):
                inner = _open(name, _FOLDER, folder, path)
                try:
                    yield from self._walk(inner, f"{path}/", after, check)
                finally:
                    os.close(inner)

    def _matches(self, states: list[frozenset[int]]) -> Optional[bool]:
        """Whether an entry matches. None if nothing in it can match either."""
        wanted, unwanted = states[: len(self._wanted)], states[len(self._wanted) :]
        if any(pattern.is_match(state) for pattern, state in zip(self._unwanted, unwanted)):
            return None
        if not any(wanted):
            return None
        matching = {
            index for index, (pattern, state) in enumerate(zip(self._wanted, wanted)) if pattern.is_match(state)
        }
        self._used |= matching
        return bool(matching)


@contextmanager
def opened(entry: Entry, uid: int) -> Iterator[int]:
    """The descriptor of a file that a pattern matched. `uid` is the user that the job's files belong to.

    Raises FilesUnusable if it is no file any more, or if it is a second name of another user's file: a step could give
    a file that it must not read a name in the workspace.
    """
    descriptor = _open(entry.name, _FILE, entry.folder, entry.path)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FilesUnusable(f"{entry.path} changed while it was read")
        if found.st_nlink > 1 and found.st_uid != uid:
            raise FilesUnusable(f"{entry.path} is another name of a file that belongs to another user")
        yield descriptor
    finally:
        os.close(descriptor)


def hash_files(workspace: Path, patterns: Sequence[str], *, uid: int, check: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 over the names and contents of all files that the patterns match. Empty if they match none.

    Raises FilesUnusable and OSError, and what `check` raises.
    """
    digest = hashlib.sha256()
    is_empty = True
    for entry in Patterns(patterns).walk(workspace, check):
        if stat.S_ISREG(entry.found.st_mode):
            content = _file_digest(entry, uid, check)
        elif stat.S_ISLNK(entry.found.st_mode):
            content = hashlib.sha256(os.fsencode(os.readlink(entry.name, dir_fd=entry.folder))).digest()
        else:
            continue
        is_empty = False
        name = os.fsencode(entry.path)
        digest.update(b"%d %s\n%s" % (len(name), name, content))
    return "" if is_empty else digest.hexdigest()


def _file_digest(entry: Entry, uid: int, check: Callable[[], None]) -> bytes:
    digest = hashlib.sha256()
    with opened(entry, uid) as descriptor:
        while data := os.read(descriptor, READ_BYTES):
            check()
            digest.update(data)
    return digest.digest()


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        names: list[str] = []
        for entry in entries:
            if len(names) >= MAX_ENTRIES:
                raise FilesUnusable(f"a folder has more than {MAX_ENTRIES:,} entries")
            names.append(entry.name)
    return sorted(names)


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError as error:
        raise FilesUnusable(f"the agent may not read {path}") from error
