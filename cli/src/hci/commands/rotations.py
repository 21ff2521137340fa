"""``hci rotations``."""

from __future__ import annotations

import click

from hci import endpoints, output
from hci.client import Json, members
from hci.commands.secrets import rotation_members
from hci.output import Column
from hci.session import HciGroup, Session, limit_option, pass_session
from hci.times import age


@click.group(cls=HciGroup)
def rotations() -> None:
    """Look at the rotations of secrets, hasten and stop them."""


@rotations.command("list")
@click.argument("secret")
@limit_option
@pass_session
def list_(session: Session, secret: str, limit: int | None) -> None:
    """List the rotations of a SECRET, newest first."""
    session.rows(
        session.listed(endpoints.SECRET_ROTATIONS, "rotations", limit=limit, secret_id=secret),
        "rotations",
        "rotation_id",
        [
            (Column("ROTATION", whole=True), lambda one: one.get("rotation_id")),
            (Column("STATE", coloured=True), lambda one: one.get("state")),
            (Column("NEW", right=True), lambda one: one.get("new_version")),
            (Column("BY"), lambda one: one.get("requested_by")),
            (Column("BEGAN", whole=True, right=True), lambda one: age(one.get("began_at"))),
            (Column("ENDED", whole=True, right=True), lambda one: age(one.get("ended_at"))),
        ],
    )


@rotations.command()
@click.argument("rotation")
@pass_session
def show(session: Session, rotation: str) -> None:
    """Print a ROTATION with each of its steps."""
    found = session.client.json(endpoints.ROTATION, rotation_id=rotation)
    session.show(found, "rotation_id", rotation_members)
    if not (session.as_json or session.quiet):
        output.write("\n")
        columns = [Column("STEP"), Column("SYSTEM"), Column("STATE", coloured=True), Column("WHAT WENT WRONG")]
        output.table(columns, [_step(one) for one in members(found, "steps")], colour=session.colour)


def _step(step: Json) -> list[object]:
    state = next((name for name in ("done", "failed", "begun") if step.get(f"{name}_at")), "waiting")
    return [step.get("act"), step.get("system"), state, step.get("message")]


@rotations.command()
@click.argument("rotation")
@pass_session
def hasten(session: Session, rotation: str) -> None:
    """End the old value as soon as possible, for one that has leaked."""
    session.show(session.client.json(endpoints.ROTATION_HASTEN, rotation_id=rotation), "rotation_id", rotation_members)


@rotations.command()
@click.argument("rotation")
@pass_session
def stop(session: Session, rotation: str) -> None:
    """Go back to the old value, if the new one is not current yet."""
    session.show(session.client.json(endpoints.ROTATION_STOP, rotation_id=rotation), "rotation_id", rotation_members)
