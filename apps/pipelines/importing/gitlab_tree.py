"""Jobs of GitLab CI with what they get from elsewhere in the file: `extends`, `!reference` and `default`."""

from __future__ import annotations

from apps.pipelines.importing.foreign import (
    MAX_DEPTH,
    MAX_WEIGHT,
    Mapping,
    Scalar,
    Sequence,
    Value,
    entries_of,
    members_of,
    scalar_text,
    truth,
)
from apps.pipelines.importing.remarks import ImportRefused, Remarks, quoted

GLOBALS = frozenset(
    ("default", "include", "stages", "types", "variables", "workflow", "image", "services", "cache", "before_script",
     "after_script", "spec")
)  # fmt: skip
_DEFAULTS = ("image", "services", "before_script", "after_script", "cache", "artifacts", "retry", "timeout",
             "interruptible", "tags", "hooks", "id_tokens")  # fmt: skip
_MAX_EXTENDS = 11


class Tree:
    """The file. `missing` has, by job, what it extends although the file does not have it."""

    def __init__(self, root: Value, remarks: Remarks) -> None:
        self._members = members_of(root)
        self._remarks = remarks
        self._weight = 0
        self.missing: dict[str, list[str]] = {}

    def jobs(self) -> dict[str, Mapping]:
        """The jobs that run, each whole."""
        found = {}
        for name, node in self._members.items():
            if name not in GLOBALS and not name.startswith(".") and isinstance(node, Mapping):
                found[name] = self._whole(name, node)
        return found

    def _whole(self, name: str, node: Mapping) -> Mapping:
        extended = self._extended(name, node, name, 0)
        resolved = self._resolved(extended, name, 0)
        members = dict(members_of(resolved))
        inherit = members_of(members.get("inherit"))
        defaults = {**{key: self._members[key] for key in _DEFAULTS if key in self._members},
                    **members_of(self._members.get("default"))}  # fmt: skip
        wanted = inherit.get("default")
        for key, default in defaults.items():
            listed = [scalar_text(entry) for entry in entries_of(wanted)] if isinstance(wanted, Sequence) else None
            if key not in members and truth(wanted) is not False and (listed is None or key in listed):
                members[key] = self._resolved(default, name, 0)
        return Mapping(node.line, None, resolved.weight, members, node.repeated)

    def _extended(self, name: str, node: Mapping, job: str, depth: int) -> Mapping:
        if "extends" not in node.members:
            return node
        if depth > _MAX_EXTENDS:
            raise ImportRefused(f"Line {node.line}: {quoted(name)} extends jobs more than {_MAX_EXTENDS} levels deep.")
        base = Mapping(node.line)
        for entry in entries_of(node.members["extends"]):
            text = scalar_text(entry) or ""
            parent = self._members.get(text)
            if not isinstance(parent, Mapping):
                self.missing.setdefault(job, []).append(text)
                continue
            base = self._merged(base, self._extended(text, parent, job, depth + 1), 0)
        own = {key: member for key, member in node.members.items() if key != "extends"}
        return self._merged(base, Mapping(node.line, None, node.weight, own, node.repeated), 0)

    def _merged(self, base: Mapping, own: Mapping, depth: int) -> Mapping:
        """Mappings are merged, anything else is replaced."""
        self._count(len(base.members) + len(own.members) + 1, own.line)
        members = dict(base.members)
        for name, node in own.members.items():
            below = members.get(name)
            if isinstance(below, Mapping) and isinstance(node, Mapping) and depth < MAX_DEPTH:
                node = self._merged(below, node, depth + 1)
            members[name] = node
        return Mapping(own.line, own.tag, own.weight, members, own.repeated)

    def _resolved(self, node: Value, job: str, depth: int) -> Value:
        """With what `!reference` stands for. GitLab allows ten levels."""
        self._count(1, node.line)
        if depth > MAX_DEPTH:
            raise ImportRefused(f"Line {node.line}: references are nested more than {MAX_DEPTH} levels deep.")
        if isinstance(node, Sequence) and node.tag == "!reference":
            return self._referenced(node, job, depth)
        if isinstance(node, Sequence):
            entries: list[Value] = []
            for entry in node.entries:
                found = self._resolved(entry, job, depth + 1)
                is_reference = isinstance(entry, Sequence) and entry.tag == "!reference"
                # A list that a reference stands for takes the place of the reference.
                entries += found.entries if is_reference and isinstance(found, Sequence) else [found]
            return Sequence(node.line, node.tag, node.weight, tuple(entries))
        if isinstance(node, Mapping):
            members = {name: self._resolved(member, job, depth + 1) for name, member in node.members.items()}
            return Mapping(node.line, node.tag, node.weight, members, node.repeated)
        return node

    def _referenced(self, node: Sequence, job: str, depth: int) -> Value:
        path = [scalar_text(entry) or "" for entry in node.entries]
        found: Value | None = self._members.get(path[0]) if path else None
        if isinstance(found, Mapping):
            found = self._extended(path[0], found, job, 0)
        for name in path[1:]:
            found = members_of(found).get(name)
        if found is None:
            shown = quoted(", ".join(path))
            self._remarks.add(node.line, f"jobs.{quoted(job, 40)}", f"!reference [{shown}] names nothing in this file")
            self.missing.setdefault(job, []).append(f"!reference [{shown}]")
            return Scalar(node.line, is_null=True)
        return self._resolved(found, job, depth + 1)

    def _count(self, weight: int, line: int) -> None:
        self._weight += weight
        if self._weight > MAX_WEIGHT * 3:
            raise ImportRefused(f"Line {line}: `extends` and `!reference` make the file too large. Split it.")
