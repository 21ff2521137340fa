"""What the control plane wants to know of a commit before it decides which jobs there are: trees and changed paths.

git answers from its own objects; no file of the workspace is read. The checkout has no history, so what it is compared
with is fetched into a repository of its own, which lasts no longer than the question.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from agent.checkout import SETTINGS
from agent.protocol import CommitFacts, Wants
from agent.removal import remove_folder
from agent.workspace_files import FilesUnusable, Patterns

# More changed paths than these are as good as unknown: the control plane then takes every path for changed.
MAX_CHANGED_PATHS = 3_000
MAX_CHANGED_BYTES = 400_000
# How far back the commit is looked for at which a branch has left the other.
HISTORY_COMMITS = 200

_OBJECT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_ENTRY = re.compile(rb"[0-7]{6} (?P<kind>[a-z]+) (?P<id>[0-9a-f]{40}(?:[0-9a-f]{24})?)\t(?P<name>.*)", re.DOTALL)
_BRANCH = re.compile(r"(?![-/])[^\x00-\x20\x7f~^:?*\[\\]{1,255}")
_MAGIC = re.compile(r"[*?\[]")
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--filter=blob:none")

# Runs git with these arguments in the workspace. Its output, without its messages, goes to the function.
Run = Callable[[list[str], Callable[[bytes], None]], int]


class FactFinder:
    """Finds the facts of the commit that is checked out."""

    def __init__(self, run: Run, *, commit: str, url: str, git_dir: Path, scratch: Path) -> None:
        """`url` is where the commit came from, `git_dir` the repository that has it, `scratch` a folder to make."""
        self._run = run
        self._commit = commit
        self._url = url
        self._git_dir = git_dir
        self._scratch = scratch

    def facts(self, wants: Wants) -> CommitFacts:
        """What is wanted. Raises what running git raises, and OSError."""
        changed = None
        if wants.changes:
            try:
                changed = self._changed_paths(wants)
            finally:
                remove_folder(self._scratch)
        return CommitFacts(changed, self._trees(wants.trees))

    # Trees

    def _trees(self, paths: list[str]) -> dict[str, str]:
        """The id of each path's tree or file, or a hash over all that a pattern matches. Empty if there is nothing."""
        asked = [_Asked(path) for path in paths]
        if not asked:
            return {}
        by_name: dict[str, list[_Asked]] = {}
        for one in asked:
            if one.patterns is None:
                by_name.setdefault(one.name, []).append(one)
        patterns = [one for one in asked if one.patterns is not None]

        def note(record: bytes) -> None:
            match = _ENTRY.fullmatch(record)
            if match is None:
                return
            name = match["name"].decode("utf-8", "surrogateescape")
            for one in by_name.get(name, ()):
                one.found = match["id"].decode()
            if match["kind"] != b"tree":
                for one in patterns:
                    one.add(name, match["id"])

        self._run([*SETTINGS, "ls-tree", "-r", "-t", "-z", self._commit], _Records(note).add)
        for one in by_name.get("", ()):
            one.found = self._top()
        return {one.path: one.result() for one in asked}

    def _top(self) -> str:
        text = self._text(["rev-parse", "--verify", "--quiet", f"{self._commit}^{{tree}}"]).strip()
        return text if _OBJECT_ID.fullmatch(text) else ""

    # Changed paths

    def _changed_paths(self, wants: Wants) -> Optional[list[str]]:
        """The paths that differ. None if the other commit cannot be had, or if there are too many."""
        if not self._prepare():
            return None
        since = self._since(wants.since) if wants.since else self._left(wants.branch)
        if since is None:
            return None
        paths = _Paths()
        records = _Records(paths.add)
        code = self._git(["diff-tree", "-r", "-z", "--name-only", "--no-renames", since, self._commit], records.add)
        return paths.complete if code == 0 and not paths.are_too_many else None

    def _prepare(self) -> bool:
        """Make the repository for the history, which has the objects of the workspace, too."""
        remove_folder(self._scratch)
        if self._run([*SETTINGS, "init", "--quiet", "--bare", "--template=", str(self._scratch)], lambda _: None) != 0:
            return False
        (self._scratch / "objects" / "info").mkdir(exist_ok=True)
        (self._scratch / "objects" / "info" / "alternates").write_text(f"{self._git_dir / 'objects'}\n")
        quoted = self._url.replace("\\", "\\\\").replace('"', '\\"')
        config = self._scratch / "config"
        config.chmod(0o600)
        # Other users could read the URL on a command line.
        config.write_text(f'{config.read_text()}[remote "origin"]\n\turl = "{quoted}"\n')
        return True

    def _since(self, commit: str) -> Optional[str]:
        if not _OBJECT_ID.fullmatch(commit):
            return None
        code = self._git([*_FETCH, "--depth=1", "--", "origin", f"+{commit}:refs/since"])
        return commit if code == 0 else None

    def _left(self, branch: Optional[str]) -> Optional[str]:
        """The commit at which this one has left the branch. If it is on the branch, the one before it."""
        if branch is not None and (not _BRANCH.fullmatch(branch) or ".." in branch):
            return None
        base = "HEAD" if branch is None else f"refs/heads/{branch}"
        refs = [f"+{base}:refs/base", f"+{self._commit}:refs/head"]
        if self._git([*_FETCH, f"--depth={HISTORY_COMMITS}", "--", "origin", *refs]) != 0:
            return None
        found = self._text([f"--git-dir={self._scratch}", "merge-base", "refs/base", "refs/head"]).strip()
        if found == self._commit:
            found = self._text(
                [f"--git-dir={self._scratch}", "rev-parse", "--verify", "--quiet", "refs/head^1"]
            ).strip()
        return found if _OBJECT_ID.fullmatch(found) else None

    def _git(self, arguments: list[str], output: Callable[[bytes], None] = lambda _: None) -> int:
        return self._run([*SETTINGS, f"--git-dir={self._scratch}", *arguments], output)

    def _text(self, arguments: list[str]) -> str:
        printed = bytearray()
        self._run([*SETTINGS, *arguments], printed.extend)
        return printed.decode(errors="replace")


class _Records:
    """Cuts what git prints into records that end with a null byte."""

    def __init__(self, each: Callable[[bytes], None]) -> None:
        self._each = each
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Add bytes as git prints them."""
        *records, self._rest = (self._rest + data).split(b"\0")
        for record in records:
            self._each(record)


class _Paths:
    """Changed paths, up to the limits."""

    def __init__(self) -> None:
        self.complete: list[str] = []
        self.are_too_many = False
        self._bytes = 0

    def add(self, record: bytes) -> None:
        self._bytes += len(record)
        if len(self.complete) >= MAX_CHANGED_PATHS or self._bytes > MAX_CHANGED_BYTES:
            self.are_too_many = True
        else:
            self.complete.append(record.decode("utf-8", "replace"))


class _Asked:
    """A path or pattern whose tree is wanted."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = _plain(path)
        self.found = ""
        self.patterns: Optional[Patterns] = None
        self._digest: Any = None
        if _MAGIC.search(path):
            with suppress(FilesUnusable):
                self.patterns = Patterns([path])

    def add(self, name: str, object_id: bytes) -> None:
        """Add a file to the hash if the pattern matches it."""
        if self.patterns is not None and self.patterns.match(name):
            self._digest = self._digest or hashlib.sha256()
            self._digest.update(object_id + b" " + name.encode("utf-8", "surrogateescape") + b"\0")

    def result(self) -> str:
        return self.found if self._digest is None else str(self._digest.hexdigest())


def _plain(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))
