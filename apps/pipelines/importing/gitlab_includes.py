"""Files of the same repository that a file of GitLab CI includes. Nothing else is read."""

from __future__ import annotations

from collections.abc import Callable

from apps.pipelines.importing.foreign import (
    MAX_DEPTH,
    MAX_WEIGHT,
    Mapping,
    Value,
    documents_read,
    entries_of,
    members_of,
    scalar_text,
)
from apps.pipelines.importing.remarks import ImportRefused, Remarks, quoted

# Gives the text of a file by its path in the repository. None: there is no such file, or it may not be read.
Read = Callable[[str], str | None]

# GitLab allows 150.
_MAX_FILES = 150


class Includes:
    """Puts included files below the one that includes them, which has the last word."""

    def __init__(self, read: Read, remarks: Remarks) -> None:
        self._read = read
        self._remarks = remarks
        self._files: set[str] = set()
        self._weight = 0

    def whole(self, root: Mapping) -> Mapping:
        """A file with what it includes. Raises ImportRefused."""
        below = Mapping(root.line)
        for entry in entries_of(root.members.get("include")):
            found = self._included(entry)
            if found is not None:
                below = self._merged(below, found, 0)
        own = {name: node for name, node in root.members.items() if name != "include"}
        return self._merged(below, Mapping(root.line, None, root.weight, own, root.repeated), 0)

    def _included(self, entry: Value) -> Mapping | None:
        members = members_of(entry)
        path = scalar_text(entry) or scalar_text(members.get("local")) or ""
        is_local = bool(path) and "://" not in path and not members.keys() - {"local", "rules", "inputs"}
        text = self._read(path.lstrip("/")) if is_local and "$" not in path and "*" not in path else None
        if text is None:
            shown = path or ", ".join(f"{key}: {scalar_text(value) or '…'}" for key, value in members.items())
            message = f"{quoted(shown, 120)} was not read; convert that file, too, and copy its jobs"
            self._remarks.add(entry.line, "include", message)
            return None
        if path in self._files:
            return None
        self._files.add(path)
        if len(self._files) > _MAX_FILES:
            raise ImportRefused(f"The file includes more than {_MAX_FILES} files.")
        for name in ("rules", "inputs"):
            if name in members:
                self._remarks.add(entry.line, f"include.{name}", f"{quoted(path)} was read whatever its {name}")
        return self._file(path, text)

    def _file(self, path: str, text: str) -> Mapping | None:
        documents = documents_read(text, path.lstrip("/"))
        document = documents[-1] if documents else None
        if not isinstance(document, Mapping):
            return None
        self._count(document.weight)
        return self.whole(document)

    def _merged(self, below: Mapping, own: Mapping, depth: int) -> Mapping:
        self._count(len(below.members) + len(own.members))
        members = dict(below.members)
        for name, node in own.members.items():
            before = members.get(name)
            if isinstance(before, Mapping) and isinstance(node, Mapping) and depth < MAX_DEPTH:
                node = self._merged(before, node, depth + 1)
            members[name] = node
        return Mapping(own.line, own.tag, below.weight + own.weight, members, own.repeated)

    def _count(self, weight: int) -> None:
        self._weight += weight
        if self._weight > MAX_WEIGHT * 3:
            raise ImportRefused("The file and those that it includes are too large together.")
