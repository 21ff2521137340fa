"""``hci jobs``, ``why``, ``cancel`` and ``retry``."""

from __future__ import annotations

from typing import Any

import click

from hci import endpoints, output
from hci.client import Json, expected_form, members
from hci.errors import UsageProblem
from hci.follow import ENDED, job_end
from hci.output import Column
from hci.places import run_or_job
from hci.session import HciCommand, Session, limit_option, pass_session
from hci.text import plain
from hci.times import age, took

_STATUSES = ["waiting", "queued", "assigned", "running", "completed", "failed", "cancelled", "timed_out", "skipped"]


@click.command(cls=HciCommand)
@click.option("--run", "run_id", metavar="RUN", help="The jobs of this run, each after those that it needs.")
@click.option("--pipeline", metavar="NAME", help="Only of this pipeline.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--ref", metavar="REF", help="Only for this ref.")
@click.option("--agent", metavar="ID", help="Only those that this agent ran.")
@limit_option
@pass_session
def jobs(
    session: Session,
    run_id: str | None,
    pipeline: str | None,
    status: str | None,
    ref: str | None,
    agent: str | None,
    limit: int | None,
) -> None:
    """List jobs, newest first."""
    query = {"pipeline": pipeline, "status": status, "git_ref": ref, "agent": agent}
    if run_id is not None:
        if any(query.values()):
            raise UsageProblem("--run lists all jobs of the run: leave out the other filters.")
        found = session.client.json(endpoints.RUN, run_id=run_id)
        found["jobs"] = members(found, "jobs")[:limit]
    else:
        found = session.listed(endpoints.JOBS, "jobs", limit=limit, query=query)
    session.rows(
        found,
        "jobs",
        "job_id",
        [
            (Column("JOB", whole=True), lambda one: one.get("job_id")),
            (Column("NAME"), lambda one: one.get("name") or "main"),
            *([(Column("PIPELINE"), lambda one: one.get("pipeline"))] if run_id is None else []),
            (Column("STATUS", whole=True, coloured=True), lambda one: one.get("status")),
            *([(Column("REF"), lambda one: one.get("git_ref"))] if run_id is None else []),
            (Column("AGENT"), lambda one: one.get("agent_name")),
            (Column("EXIT", right=True), lambda one: one.get("exit_code")),
            (Column("AGE", whole=True, right=True), lambda one: age(one.get("created_at") or one.get("started_at"))),
            (Column("TOOK", whole=True, right=True), lambda one: took(one.get("started_at"), one.get("completed_at"))),
        ],
    )


@click.command(cls=HciCommand)
@click.argument("job")
@pass_session
def why(session: Session, job: str) -> None:
    """Say why a JOB waits, was skipped, or failed."""
    found = session.client.json(endpoints.JOB, job_id=job)
    if session.as_json:
        output.document(found)
        return
    with expected_form():
        said = reasons(found)
    output.write("".join(f"{one}\n" for one in said))


def reasons(job: Json) -> list[str]:
    """What is known of why the job is as it is, a sentence each."""
    waiting = job.get("waiting")
    said = [plain(waiting.get("message"))] if isinstance(waiting, dict) else []
    if job.get("status") in ENDED:
        said.append(job_end(job))
    elif not said:
        said.append(f"The job is {plain(job.get('status'))}.")
    said += [
        f"Attempt {plain(attempt.get('number'))}: {plain(attempt['reason'])}"
        for attempt in _objects(job, "attempts")
        if attempt.get("reason")
    ]
    for number, step in enumerate(_objects(job, "steps"), 1):
        if step.get("state") in ("failed", "timed_out"):
            code = step.get("exit_code")
            ending = f" with exit code {plain(code)}" if code is not None else ""
            said.append(f"Step {number}, {plain(step.get('name'))}: {plain(step['state']).replace('_', ' ')}{ending}")
    if job.get("log_problem"):
        said.append(plain(job["log_problem"]))
    return said


def _objects(document: Json, name: str) -> list[Json]:
    found = document.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


@click.command(cls=HciCommand)
@click.argument("identifier", metavar="RUN|JOB")
@pass_session
def cancel(session: Session, identifier: str) -> None:
    """Cancel a RUN with all of its jobs, or one JOB."""
    kind, _ = run_or_job(session.client, identifier)
    if kind == "run":
        found = session.client.json(endpoints.RUN_CANCEL, run_id=identifier)
    else:
        found = session.client.json(endpoints.JOB_CANCEL, job_id=identifier)
    session.show(found, f"{kind}_id", _state)


@click.command(cls=HciCommand)
@click.argument("identifier", metavar="RUN|JOB")
@click.option("--failed", is_flag=True, help="Of a run: only the jobs that failed or were cancelled.")
@pass_session
def retry(session: Session, identifier: str, failed: bool) -> None:
    """Run all jobs of a RUN again, or one JOB."""
    kind, _ = run_or_job(session.client, identifier)
    if kind == "run":
        found = session.client.json(endpoints.RUN_RETRY, run_id=identifier, body={"everything": not failed})
    elif failed:
        raise UsageProblem("--failed is for runs, and this is the id of a job.")
    else:
        found = session.client.json(endpoints.JOB_RETRY, job_id=identifier)
    session.show(found, f"{kind}_id", _state)


def _state(one: Json) -> list[tuple[str, Any]]:
    requested = one.get("cancel_requested") and one.get("status") not in ENDED
    return [
        ("Run", one.get("run_id")),
        ("Job", one.get("job_id") if "jobs" not in one else None),
        ("Status", f"{plain(one.get('status'))}{', cancel requested' if requested else ''}"),
    ]
