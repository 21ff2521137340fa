"""``hci audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, TypeVar

import click

from hci import endpoints, output
from hci.errors import UsageProblem
from hci.export import ExportFile, export_pages
from hci.output import Column
from hci.session import HciGroup, Session, limit_option, pass_session
from hci.text import plain

_FILE = click.Path(dir_okay=False, path_type=Path)
_Function = TypeVar("_Function", bound=Callable[..., Any])


@click.group(cls=HciGroup)
def audit() -> None:
    """Search and export the audit trail."""


def _filters(function: _Function) -> _Function:
    for option in (
        click.option("--to", metavar="TIME", help="The last day, or the time before which."),
        click.option("--from", "begin", metavar="TIME", help="The first day in UTC, or the time from which on."),
        click.option("--action", metavar="ACTION", help="Only this action, for example job.created."),
        click.option("--target", metavar="TARGET", help="Only on this, for example pipeline:web."),
        click.option("--actor", metavar="ACTOR", help="Only by this actor, for example user:ID or system."),
    ):
        function = option(function)
    return function


@audit.command()
@_filters
@limit_option
@pass_session
def search(
    session: Session,
    actor: str | None,
    target: str | None,
    action: str | None,
    begin: str | None,
    to: str | None,
    limit: int | None,
) -> None:
    """List the events that match all filters, newest first."""
    query = {"actor": actor, "target": target, "action": action, "from": begin, "to": to}
    session.rows(
        session.listed(endpoints.AUDIT, "events", limit=limit, query=query),
        "events",
        "event_id",
        [
            (Column("AT", whole=True), lambda one: plain(one.get("at"))[:19]),
            (Column("ACTOR"), lambda one: _actor(one.get("actor"))),
            (Column("ACTION", whole=True), lambda one: one.get("action")),
            (Column("TARGET"), lambda one: one.get("target")),
            (Column("RESULT", coloured=True), lambda one: one.get("result")),
            (Column("DETAIL"), lambda one: json.dumps(one.get("detail") or {}) if one.get("detail") else ""),
        ],
    )


def _actor(actor: Any) -> str:
    if not isinstance(actor, dict):
        return ""
    return plain(actor.get("name") or f"{actor.get('kind')}:{actor.get('id')}")


@audit.command()
@_filters
@click.option("-o", "--output", "file", type=_FILE, metavar="FILE", help="A new file that only you can read.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted export in FILE.")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--schema", type=click.Choice(["native", "ocsf"]), default="native", help="Whose names the fields have.")
@pass_session
def export(
    session: Session,
    actor: str | None,
    target: str | None,
    action: str | None,
    begin: str | None,
    to: str | None,
    file: Path | None,
    resume: bool,
    form: str,
    schema: str,
) -> None:
    """Export the trail, oldest event first, as JSON Lines or CSV.

    The lines of the native JSON Lines are what seals cover, so they are written as they come.
    """
    if resume and file is None:
        raise UsageProblem("--resume needs the file: give --output.")
    filters = {"actor": actor, "target": target, "action": action, "from": begin, "to": to}
    query = {name: value for name, value in {**filters, "format": form, "schema": schema}.items() if value}
    place = ExportFile(file) if file else None
    written = export_pages(session.client, query, place, resume=resume, say=output.write_file)
    if session.as_json and file:
        output.document({"file": str(file), "bytes": written})
    elif file:
        session.notice(f"Wrote {written:,} bytes to {file}.")
