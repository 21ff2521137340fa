"""``hci run`` and ``hci runs``."""

from __future__ import annotations

from typing import Any

import click

from hci import endpoints, output
from hci.client import Json, text
from hci.errors import Ended, Exit, UsageProblem
from hci.follow import FOLLOW_PATIENCE, RunWatch
from hci.output import Column
from hci.session import HciCommand, Session, limit_option, pass_session
from hci.text import plain
from hci.times import age, took

# What starts runs.
EVENTS = ("api", "page", "schedule", "push", "tag", "pull_request", "deployment")


@click.command(cls=HciCommand)
@click.argument("pipeline", required=False)
@click.option("--ref", metavar="REF", help="Branch, tag or commit. Default: the pipeline's.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the pipeline. Can be repeated.",
)
@click.option("--no-reuse", is_flag=True, help="Run every job, also where an earlier result could be taken.")
@click.option("-f", "--follow", is_flag=True, help="Print the logs until the run has ended. Exit code 1 if it failed.")
@pass_session
def run(
    session: Session, pipeline: str | None, ref: str | None, parameters: tuple[str, ...], no_reuse: bool, follow: bool
) -> None:
    """Start a run of a PIPELINE, by default of the default one."""
    body: dict[str, Any] = {
        "pipeline": pipeline,
        "git_ref": ref,
        "parameters": dict(parameter_of(one) for one in parameters) or None,
        "reuse": False if no_reuse else None,
    }
    client = session.client
    created = client.json(endpoints.RUN_CREATE, body={name: value for name, value in body.items() if value is not None})
    run_id = text(created, "run_id")
    if not follow:
        session.show(created, "run_id", _created)
        return
    session.notice(f"Run {run_id}")
    found = follow_run(session, run_id)
    if session.as_json:
        output.document(found)
    elif session.quiet:
        output.line(run_id)
    else:
        duration = took(found.get("created_at"), found.get("completed_at"))
        session.notice(f"The run ended after {duration}: {plain(found.get('status'))}")
    raise Ended(Exit.OK if found.get("status") == "completed" else Exit.FAILED)


def _created(run: Json) -> list[tuple[str, object]]:
    return [("Run", run["run_id"]), ("Job", run.get("job_id")), ("Status", run.get("status"))]


def follow_run(session: Session, run_id: str) -> Json:
    """Print the run's logs to its end. Ctrl-C ends the program, and not the run."""
    session.client.follow(FOLLOW_PATIENCE)
    watch = RunWatch(
        session.client, run_id, session.colour, session.notice, logs=not (session.as_json or session.quiet)
    )
    try:
        return watch.follow()
    except KeyboardInterrupt:
        output.write("\x1b[0m" if session.colour else "")
        output.notice("")
        output.notice(f"The run goes on. To cancel it: hci cancel {run_id}")
        raise Ended(Exit.INTERRUPTED) from None


def parameter_of(given: str) -> tuple[str, str]:
    """A parameter's name and value. The API makes a number or a flag of its text. Raises UsageProblem."""
    name, equals, value = given.partition("=")
    if not (name and equals):
        raise UsageProblem(f"A parameter must be NAME=VALUE, not “{given[:100]}”.")
    return name, value


@click.command(cls=HciCommand)
@click.option("--pipeline", metavar="NAME", help="Only of this pipeline.")
@click.option("--branch", metavar="REF", help="Only for this ref.")
@click.option(
    "--status",
    type=click.Choice(["queued", "running", "completed", "failed", "cancelled"]),
    help="Only with this status.",
)
@click.option("--event", type=click.Choice(EVENTS), help="Only those that this started.")
@click.option("--by", metavar="NAME", help="Only those that this user started.")
@limit_option
@pass_session
def runs(
    session: Session,
    pipeline: str | None,
    branch: str | None,
    status: str | None,
    event: str | None,
    by: str | None,
    limit: int | None,
) -> None:
    """List runs, newest first."""
    query = {"pipeline": pipeline, "branch": branch, "status": status, "event": event, "requested_by": by}
    found = session.listed(endpoints.RUNS, "runs", limit=limit, query=query)
    session.rows(
        found,
        "runs",
        "run_id",
        [
            (Column("RUN", whole=True), lambda one: one.get("run_id")),
            (Column("PIPELINE"), lambda one: one.get("pipeline")),
            (Column("STATUS", whole=True, coloured=True), lambda one: one.get("status")),
            (Column("REF"), lambda one: one.get("git_ref")),
            (Column("COMMIT"), lambda one: (one.get("commit") or "")[:8]),
            (Column("JOBS", right=True), lambda one: one.get("jobs_total")),
            (Column("BY"), lambda one: one.get("requested_by")),
            (Column("AGE", whole=True, right=True), lambda one: age(one.get("created_at"))),
            (
                Column("TOOK", whole=True, right=True),
                lambda one: took(one.get("created_at"), one.get("completed_at")) if one.get("completed_at") else "",
            ),
        ],
    )
