"""``hci deploy``, ``approve``, ``reject``, ``rollback``, ``environments`` and ``deployments``."""

from __future__ import annotations

from typing import Any

import click

from hci import endpoints, output
from hci.client import ApiError, Json, members, text
from hci.commands.runs import follow_run, parameter_of
from hci.endpoints import Endpoint
from hci.errors import Ended, Exit, NotThere, Refused, UsageProblem
from hci.output import Column
from hci.session import HciCommand, Session, limit_option, pass_session
from hci.text import plain
from hci.times import age, took

STATUSES = ("waiting", "in_progress", "completed", "failed", "cancelled", "rejected")
# The statuses of a job that no agent has started yet.
_NOT_BEGUN = ("waiting", "queued", "assigned")
_follow_option = click.option(
    "-f", "--follow", is_flag=True, help="Print the logs until the run has ended. Exit code 1 if it failed."
)
_comment_option = click.option("-m", "--comment", metavar="TEXT", help="Why.")


@click.command(cls=HciCommand)
@click.argument("environment")
@click.option("--pipeline", metavar="NAME", help="The pipeline. Default: the default one, or that of the run.")
@click.option("--ref", metavar="REF", help="Branch, tag or commit. Default: the pipeline's.")
@click.option("--run", "run_id", metavar="RUN", help="Deploy the commit of this run, in place of a ref.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the pipeline. Can be repeated.",
)
@_follow_option
@pass_session
def deploy(
    session: Session,
    environment: str,
    pipeline: str | None,
    ref: str | None,
    run_id: str | None,
    parameters: tuple[str, ...],
    follow: bool,
) -> None:
    """Start a run that deploys to an ENVIRONMENT. It waits for the gates of the environment, as approvals."""
    body: dict[str, Any] = {
        "environment": environment,
        "pipeline": pipeline,
        "git_ref": ref,
        "run_id": run_id,
        "parameters": dict(parameter_of(one) for one in parameters) or None,
    }
    given = {name: value for name, value in body.items() if value is not None}
    created = session.client.json(endpoints.DEPLOYMENT_CREATE, body=given)
    _started(session, created, environment=environment, follow=follow)


@click.command(cls=HciCommand)
@click.argument("what", metavar="ENVIRONMENT|DEPLOYMENT")
@click.option("--pipeline", metavar="NAME", help="Whose deployment to the environment, if several have one.")
@_follow_option
@pass_session
def rollback(session: Session, what: str, pipeline: str | None, follow: bool) -> None:
    """Deploy the last good commit before the one that is live, or before a DEPLOYMENT, again."""
    deployment_id, environment = (what, None) if _is_id(what) else (_live(session, what, pipeline), what)
    created = session.client.json(endpoints.DEPLOYMENT_ROLLBACK, deployment_id=deployment_id)
    if environment is None and not (follow or session.quiet):
        found = session.client.json(endpoints.DEPLOYMENT, deployment_id=deployment_id)
        environment = text(found, "environment")
    _started(session, created, environment=environment, follow=follow)


def _live(session: Session, environment: str, pipeline: str | None) -> str:
    """The id of the deployment that is live. Raises HciError if there is none, or if it is not clear which."""
    found = members(session.client.json(endpoints.ENVIRONMENT, name=environment), "live")
    live = [one for one in found if pipeline in (None, one.get("pipeline"))]
    if not live:
        raise NotThere(f"Nothing is live in {environment}{f' of {pipeline}' if pipeline else ''}.")
    if len(live) > 1:
        names = ", ".join(sorted(plain(one.get("pipeline")) for one in live))
        raise UsageProblem(f"Several pipelines are live in {environment}: name one with --pipeline, of {names}.")
    return text(live[0], "deployment_id")


def _started(session: Session, created: Json, *, environment: str | None, follow: bool) -> None:
    run_id = text(created, "run_id")
    if not follow:
        session.show(
            created,
            "run_id",
            lambda one: [("Run", one["run_id"]), ("Ref", one.get("git_ref")), ("Commit", one.get("commit"))],
        )
        if environment is not None and not session.quiet:
            _hint(session, environment, run_id)
        return
    session.notice(f"Run {run_id}")
    found = follow_run(session, run_id)
    if session.as_json:
        output.document(found)
    elif session.quiet:
        output.line(run_id)
    raise Ended(Exit.OK if found.get("status") == "completed" else Exit.FAILED)


def _hint(session: Session, environment: str, run_id: str) -> None:
    """Say what comes next, as far as the credentials may read it: an approval, or a new environment."""
    try:
        found = session.client.json(endpoints.ENVIRONMENT, name=environment)
    except ApiError as error:
        if error.code == "environment_not_found":
            session.notice(
                f"There is no environment {environment} yet. If a job of the pipeline file deploys to it, the run "
                "makes it, without gates; if none does, the run fails."
            )
        return
    if found.get("approvals"):
        session.notice(f"If it waits for approval: hci approve {run_id}")


@click.command(cls=HciCommand)
@click.argument("what", metavar="DEPLOYMENT|RUN")
@_comment_option
@pass_session
def approve(session: Session, what: str, comment: str | None) -> None:
    """Approve a DEPLOYMENT that waits, or the only one of a RUN that does."""
    _decide(session, endpoints.DEPLOYMENT_APPROVE, what, comment)


@click.command(cls=HciCommand)
@click.argument("what", metavar="DEPLOYMENT|RUN")
@_comment_option
@pass_session
def reject(session: Session, what: str, comment: str | None) -> None:
    """Reject a DEPLOYMENT that waits, or the only one of a RUN that does: its job fails."""
    _decide(session, endpoints.DEPLOYMENT_REJECT, what, comment)


def _decide(session: Session, endpoint: Endpoint, what: str, comment: str | None) -> None:
    body = {"comment": comment} if comment else {}
    found = session.client.json(endpoint, body=body, deployment_id=_waiting_of(session, what))
    session.show(found, "deployment_id", _shown)


def _waiting_of(session: Session, what: str) -> str:
    """The id of the deployment that is meant: this one, or the one of the run that waits. Raises HciError."""
    try:
        found = session.client.json(endpoints.DEPLOYMENTS, query={"run_id": what})
    except ApiError as error:
        if error.code == "run_not_found":
            return what
        raise
    waiting = [one for one in members(found, "deployments") if one.get("status") == "waiting"]
    if len(waiting) == 1:
        return text(waiting[0], "deployment_id")
    if waiting:
        names = "; ".join(f"{plain(one.get('deployment_id'))} to {plain(one.get('environment'))}" for one in waiting)
        raise UsageProblem(f"Several deployments of the run wait: {names}.")
    raise Refused("No deployment of the run waits now.", hints=(f"See them: hci deployments --run {what}",))


@click.command(cls=HciCommand)
@pass_session
def environments(session: Session) -> None:
    """List the environments with what is live in them."""
    found = session.client.json(endpoints.ENVIRONMENTS)
    entries = members(found, "environments")
    if session.as_json:
        output.document(found)
    elif session.quiet:
        output.write("".join(f"{plain(one.get('name'))}\n" for one in entries))
    elif not entries:
        output.notice("There are none.")
    else:
        columns = [
            Column("ENVIRONMENT", whole=True),
            Column("PIPELINE"),
            Column("LIVE", whole=True),
            Column("REF"),
            Column("SINCE", whole=True, right=True),
            Column("BY"),
            Column("NOW", coloured=True),
        ]
        rows = [row for one in entries for row in _environment_rows(one)]
        output.table(columns, rows, colour=session.colour)


def _environment_rows(environment: Json) -> list[list[object]]:
    """A row for each pipeline that has something live; one at least."""
    waiting = environment.get("waiting") or []
    begun = "queued" if environment.get("in_progress_job_status") in _NOT_BEGUN else "in_progress"
    now = begun if environment.get("in_progress") else f"{len(waiting)} waiting" if waiting else ""
    live: list[Any] = environment.get("live") or [{}]
    return [
        [
            environment.get("name"),
            one.get("pipeline") or "",
            str(one.get("commit") or "")[:8],
            one.get("git_ref") or "",
            age(one.get("since")) if one.get("since") else "",
            one.get("requested_by") or "",
            now,
        ]
        for one in live
    ]


@click.command(cls=HciCommand)
@click.argument("deployment", required=False)
@click.option("--environment", metavar="NAME", help="Only to this environment.")
@click.option("--pipeline", metavar="NAME", help="Only of this pipeline.")
@click.option("--status", type=click.Choice(STATUSES), help="Only with this status.")
@click.option("--run", "run_id", metavar="RUN", help="Only those of this run.")
@limit_option
@pass_session
def deployments(
    session: Session,
    deployment: str | None,
    environment: str | None,
    pipeline: str | None,
    status: str | None,
    run_id: str | None,
    limit: int | None,
) -> None:
    """List deployments, newest first; or show one DEPLOYMENT with its gates."""
    if deployment is not None:
        session.show(session.client.json(endpoints.DEPLOYMENT, deployment_id=deployment), "deployment_id", _shown)
        return
    query = {"environment": environment, "pipeline": pipeline, "status": status, "run_id": run_id}
    session.rows(
        session.listed(endpoints.DEPLOYMENTS, "deployments", limit=limit, query=query),
        "deployments",
        "deployment_id",
        [
            (Column("DEPLOYMENT", whole=True), lambda one: one.get("deployment_id")),
            (Column("ENVIRONMENT"), lambda one: one.get("environment")),
            (Column("PIPELINE"), lambda one: one.get("pipeline")),
            (Column("STATUS", whole=True, coloured=True), _status),
            (Column("REF"), lambda one: one.get("git_ref")),
            (Column("COMMIT"), lambda one: (one.get("commit") or "")[:8]),
            (Column("BY"), lambda one: one.get("requested_by")),
            (Column("AGE", whole=True, right=True), lambda one: age(one.get("created_at"))),
            (
                Column("TOOK", whole=True, right=True),
                lambda one: took(one.get("opened_at"), one.get("ended_at")) if one.get("ended_at") else "",
            ),
        ],
    )


def _shown(one: Json) -> list[tuple[str, object]]:
    gates = members(one, "gates")
    rejection = one.get("rejection") or {}
    waiting = one.get("waiting") or {}
    return [
        ("Deployment", one.get("deployment_id")),
        ("Environment", one.get("environment")),
        ("Pipeline", one.get("pipeline")),
        ("Status", _status(one)),
        ("Waits", waiting.get("message")),
        ("Ref", one.get("git_ref")),
        ("Commit", one.get("commit")),
        ("Before", one.get("before_commit")),
        ("Run", one.get("run_id")),
        ("Asked by", one.get("requested_by")),
        *((f"Gate {'open' if gate.get('is_open') else 'closed'}", gate.get("message")) for gate in gates),
        *(("Approved", _said(said)) for said in members(one, "approvals")),
        ("Rejected", _said(rejection) if rejection else None),
        ("Reason", one.get("reason")),
        ("Error", one.get("error")),
    ]


def _status(one: Json) -> object:
    """The status of a deployment; queued where its gates are open and no agent has started its job yet."""
    is_queued = one.get("status") == "in_progress" and one.get("job_status") in _NOT_BEGUN
    return "queued" if is_queued else one.get("status")


def _said(said: Json) -> str:
    comment = f": {plain(said.get('comment'))}" if said.get("comment") else ""
    return f"by {plain(said.get('by'))}{comment}"


def _is_id(what: str) -> bool:
    """Whether it is the id of a deployment. An environment can have no such name that anybody would type."""
    return len(what) == 26 and what[:2] in ("00", "01", "02") and what.isalnum() and what.islower()
