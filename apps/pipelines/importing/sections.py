"""A mapping of the foreign file from which converters take members. What none takes ends in the remarks."""

from __future__ import annotations

from collections.abc import Mapping as ReadableMapping

from apps.pipelines.importing.foreign import Mapping, Scalar, Sequence, Value, entries_of, members_of, scalar_text
from apps.pipelines.importing.remarks import Remarks, quoted


class Section:
    """The members of one mapping. `subject` names it in remarks."""

    def __init__(self, node: Value | None, subject: str, remarks: Remarks, *, line: int = 1) -> None:
        self.node = node
        self.subject = subject
        self.remarks = remarks
        self.line = node.line if node is not None else line
        self._left = dict(members_of(node))
        if isinstance(node, Mapping):
            for name, line in node.repeated:
                remarks.add(line, self.path(name), "is given twice; the last one was converted")
        elif node is not None and not (isinstance(node, Scalar) and node.is_null):
            remarks.add(node.line, subject or "file", "is no mapping, so it was left out")

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def path(self, name: str) -> str:
        """How remarks name a member."""
        return f"{self.subject}.{quoted(name, 40)}" if self.subject else quoted(name, 40)

    def take(self, name: str) -> Value | None:
        """The member, which no one else needs to look at any more."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """The member as text. Anything else is noted."""
        node = self.take(name)
        text = scalar_text(node)
        if node is not None and text is None and not isinstance(node, Scalar):
            self.remarks.add(node.line, self.path(name), "is not text, so it was left out")
        return text

    def texts(self, name: str) -> list[str]:
        """The member as a list of texts; lists in it are made flat. Anything else is noted."""
        node = self.take(name)
        return self.flat(node, name)

    def flat(self, node: Value | None, name: str) -> list[str]:
        """The texts in a node, in order."""
        found: list[str] = []
        for entry in entries_of(node):
            text = scalar_text(entry)
            if isinstance(entry, Sequence):
                found.extend(self.flat(entry, name))
            elif text is not None:
                found.append(text)
            elif not isinstance(entry, Scalar):
                self.remarks.add(entry.line, self.path(name), "has a mapping where text was expected; left out")
        return found

    def section(self, name: str) -> Section:
        """The member as a mapping; without it, an empty one."""
        return Section(self.take(name), self.path(name), self.remarks, line=self.line)

    def note(self, name: str, message: str, node: Value | None = None) -> None:
        """Note something of a member that was taken."""
        self.remarks.add(node.line if node is not None else self.line, self.path(name), message)

    def leave(self, reasons: ReadableMapping[str, str]) -> None:
        """Note members that have no counterpart, each with its reason."""
        for name, reason in reasons.items():
            node = self.take(name)
            if node is not None:
                self.note(name, reason, node)

    def close(self) -> None:
        """Note what is left."""
        for name, node in self._left.items():
            self.note(name, "has no counterpart that is known here, so it was left out", node)
        self._left = {}
