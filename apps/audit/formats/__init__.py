"""Audit events as lines of a file: JSON Lines and CSV, with our own field names or with those of OCSF."""

from apps.audit.formats.lines import (
    CONTENT_TYPES,
    CSV,
    JSONL,
    NATIVE,
    OCSF,
    Format,
    line_event_id,
)

__all__ = ["CONTENT_TYPES", "CSV", "JSONL", "NATIVE", "OCSF", "Format", "line_event_id"]
