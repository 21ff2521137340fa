"""``hci agents``."""

from __future__ import annotations

from typing import Callable

import click

from hci import endpoints
from hci.client import Json, members
from hci.output import Column
from hci.session import HciGroup, Session, limit_option, pass_session
from hci.times import age, coarse

_STATUSES = ["healthy", "unhealthy", "dead", "draining", "retired"]


@click.group(cls=HciGroup, invoke_without_command=True)
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--region", metavar="REGION", help="Only in this region.")
@limit_option
@click.pass_context
def agents(context: click.Context, status: str | None, region: str | None, limit: int | None) -> None:
    """List agents by region and then by age; drain them and resume them."""
    if context.invoked_subcommand is not None:
        return
    session = context.ensure_object(Session)
    query = {"status": status, "region": region}
    session.rows(
        session.listed(endpoints.AGENTS, "agents", limit=limit, query=query),
        "agents",
        "agent_id",
        [
            (Column("AGENT", whole=True), lambda one: one.get("agent_id")),
            (Column("NAME"), lambda one: one.get("name")),
            (Column("REGION"), lambda one: one.get("region")),
            (Column("STATUS", whole=True, coloured=True), lambda one: one.get("status")),
            (Column("FREE", right=True), lambda one: f"{one.get('free_slots')}/{one.get('slots')}"),
            (Column("LABELS"), lambda one: ", ".join(map(str, one.get("labels") or []))),
            (Column("TARGETS"), lambda one: ", ".join(map(str, one.get("deployment_targets") or []))),
            (Column("VERSION"), lambda one: one.get("version")),
            (Column("HEARD", whole=True, right=True), lambda one: age(one.get("last_heartbeat"))),
        ],
    )


@agents.command()
@click.option("--labels", metavar="LABELS", help="Only what agents with these labels could take, such as linux,gpu.")
@pass_session
def demand(session: Session, labels: str | None) -> None:
    """List the labels with which jobs wait, and what room the healthy agents have for them.

    MISSING is how many slots have to be added so that all of the jobs could run now.
    """
    session.rows(
        _demand(session, "label_sets", labels),
        "label_sets",
        "name",
        [
            (Column("LABELS"), lambda one: one.get("name") or "(any agent)"),
            (Column("WAITING", right=True), _waiting),
            (Column("OLDEST", whole=True, right=True), lambda one: coarse(one["oldest_wait_seconds"])),
            (Column("AGENTS", right=True), lambda one: _capacity(one).get("agents")),
            (Column("FREE", right=True), _free),
            (Column("MISSING", right=True), lambda one: one.get("slots_missing")),
        ],
    )


@agents.command()
@pass_session
def regions(session: Session) -> None:
    """List the regions with their agents, and the slots of those that are healthy."""
    session.rows(
        _demand(session, "regions"),
        "regions",
        "region",
        [
            (Column("REGION"), lambda one: one.get("region")),
            *((Column(status.upper(), right=True), _of_status(status)) for status in _STATUSES),
            (Column("FREE", right=True), _free),
        ],
    )


@agents.command()
@click.argument("agent")
@pass_session
def drain(session: Session, agent: str) -> None:
    """Give an AGENT no new jobs, for example before its machine is updated. Its running jobs go on."""
    session.show(session.client.json(endpoints.AGENT_DRAIN, agent_id=agent), "agent_id", _members)


@agents.command()
@click.argument("agent")
@pass_session
def resume(session: Session, agent: str) -> None:
    """Give a draining or unhealthy AGENT new jobs again."""
    session.show(session.client.json(endpoints.AGENT_RESUME, agent_id=agent), "agent_id", _members)


def _members(agent: Json) -> list[tuple[str, object]]:
    running = agent.get("running_jobs")
    return [
        ("Agent", agent.get("agent_id")),
        ("Name", agent.get("name")),
        ("Status", agent.get("status")),
        ("Running jobs", len(running) if isinstance(running, list) else None),
    ]


def _demand(session: Session, name: str, labels: str | None = None) -> Json:
    """The demand for agents, which has a list of this name."""
    found = session.client.json(endpoints.AGENT_DEMAND, query={"labels": labels})
    members(found, name)
    return found


def _waiting(label_set: Json) -> str:
    return f"{label_set.get('waiting')}{'+' if label_set.get('is_lower_bound') else ''}"


def _capacity(one: Json) -> Json:
    capacity: Json = one["capacity"]
    return capacity


def _free(one: Json) -> str:
    return f"{_capacity(one).get('free_slots')}/{_capacity(one).get('slots')}"


def _of_status(status: str) -> Callable[[Json], object]:
    return lambda region: region["statuses"].get(status)
