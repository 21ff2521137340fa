"""An audit event as one line of JSON Lines or CSV."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from apps.audit.canonical import canonical_bytes, canonical_record
from apps.audit.formats.ocsf import OCSF_COLUMNS, ocsf_event
from controlplane.lib.csv_lines import csv_cells, csv_line
from controlplane.lib.frozen import frozen

JSONL, CSV = "jsonl", "csv"
NATIVE, OCSF = "native", "ocsf"
CONTENT_TYPES = {JSONL: "application/jsonl; charset=utf-8", CSV: "text/csv; charset=utf-8"}

_COLUMNS = ("event_id", "at", "actor_kind", "actor_id", "actor_name", "action", "target", "result", "detail")


@frozen
class Format:
    """How events are written: `kind` is jsonl or csv, `schema` has the names of the fields."""

    kind: Literal["jsonl", "csv"] = "jsonl"
    schema: Literal["native", "ocsf"] = "native"

    @property
    def header(self) -> str:
        """The first line of a file: the names of the columns, or nothing in JSON Lines."""
        if self.kind == JSONL:
            return ""
        return csv_line(OCSF_COLUMNS if self.schema == OCSF else _COLUMNS)

    @property
    def content_type(self) -> str:
        """For the header Content-Type."""
        return CONTENT_TYPES[self.kind]

    def line(self, record: Any) -> str:
        """The event as a line with its line break. A line of CSV is one line of the file, too."""
        if self.schema == OCSF:
            event = ocsf_event(record)
            if self.kind == JSONL:
                return f"{_compact(event)}\n"
            return csv_line(_at(event, path) for path in OCSF_COLUMNS)
        if self.kind == JSONL:
            stored = record.serialize() if record.stored is None else record.stored
            return f"{canonical_bytes(canonical_record(stored)).decode()}\n"
        return csv_line(_text(value) for value in _fields(record))


def _fields(record: Any) -> tuple[Any, ...]:
    """The cells of the event, in the order of the columns."""
    return (
        *(record.entry, record.at, record.actor_kind, record.actor_id, record.actor_name),
        *(record.action, record.target, record.result, dict(record.detail or {})),
    )


def line_event_id(line: str, form: Format) -> str:
    """The id (`entry`) of the event that `Format.line` wrote. Raises ValueError for another line."""
    try:
        if form.kind == CSV:
            column = OCSF_COLUMNS.index("metadata.uid") if form.schema == OCSF else 0
            return csv_cells(line)[column]
        members = json.loads(line)
        return str(members["metadata"]["uid"] if form.schema == OCSF else members["entry"])
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError("the line is no audit event of this format") from error


def _at(event: Mapping[str, Any], path: str) -> Any:
    """The member of an event at a dotted path (``actor.user.uid``); None without it."""
    value: Any = event
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return _text(value)


def _text(value: Any) -> Any:
    return _compact(value) if isinstance(value, dict | list) else value


_compact: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
