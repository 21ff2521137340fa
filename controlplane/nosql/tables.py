"""Making the tables that the records declare."""

from collections.abc import Iterator

from controlplane.nosql.record import Record


def record_tables() -> dict[str, list[type[Record]]]:
    """The full name of every table with the records that live in it, in the order of declaration."""
    tables: dict[str, list[type[Record]]] = {}
    for kind in Record.kinds:
        tables.setdefault(kind.Meta.table_name, []).append(kind)
    return tables


def create_tables() -> Iterator[str]:
    """Make each table that is missing, with its indexes and TTL; yields the names of those it made."""
    for name, kinds in record_tables().items():
        # The record that declares most of the table's indexes comes first; the others only share its keys.
        kind = max(kinds, key=lambda kind: len(kind._indexes))
        if not kind.exists():
            kind.create_table(wait=True)
            yield name
