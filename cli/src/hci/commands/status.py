"""``hci status``."""

from __future__ import annotations

import click

from hci import endpoints
from hci.client import members
from hci.errors import Ended, Exit
from hci.output import Column
from hci.session import HciCommand, Session, pass_session


@click.command(cls=HciCommand)
@pass_session
def status(session: Session) -> None:
    """Say how the parts of the control plane are: ok, degraded (something needs a look), or failing.

    Exit code 1 if a part is failing.
    """
    found = session.client.json(endpoints.STATUS)
    members(found, "components")
    session.rows(
        found,
        "components",
        "name",
        [
            (Column("PART", whole=True), lambda one: one.get("name")),
            (Column("HEALTH", whole=True, coloured=True), lambda one: one.get("health")),
            (Column("MESSAGE"), lambda one: one.get("message")),
        ],
    )
    if found.get("health") == "failing":
        raise Ended(Exit.FAILED)
