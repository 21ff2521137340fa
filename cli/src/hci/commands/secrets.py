"""``hci secrets``. A value comes from standard input or from a prompt, and never from an argument."""

from __future__ import annotations

import sys
from typing import Any

import click

from hci import endpoints, output
from hci.client import Json, members, text
from hci.errors import Ended, Exit, UsageProblem
from hci.output import Column
from hci.session import HciGroup, Session, limit_option, pass_session
from hci.text import plain
from hci.times import age

# The API takes no longer value.
_VALUE_BYTES = 32 * 1024


@click.group(cls=HciGroup)
def secrets() -> None:
    """List, set, rotate and delete secrets. A value is never shown."""


@secrets.command("list")
@limit_option
@pass_session
def list_(session: Session, limit: int | None) -> None:
    """List the secrets by id."""
    session.rows(
        session.listed(endpoints.SECRETS, "secrets", limit=limit),
        "secrets",
        "secret_id",
        [
            (Column("SECRET", whole=True), lambda one: one.get("secret_id")),
            (Column("FOR"), lambda one: _scope_text(one.get("scope"))),
            (Column("VERSION", right=True), lambda one: one.get("version")),
            (Column("FINGERPRINT", whole=True), lambda one: one.get("fingerprint")),
            (Column("CHANGED", whole=True, right=True), lambda one: age(one.get("changed_at"))),
            (Column("USED", whole=True, right=True), lambda one: age(one.get("delivered_at")) or "never"),
        ],
    )


def _scope_text(scope: Any) -> str:
    """Which jobs get it."""
    if not isinstance(scope, dict):
        return "all jobs"
    branches = scope.get("branches")
    parts = [
        f"pipeline {plain(scope['pipeline'])}" if scope.get("pipeline") else "",
        f"environment {plain(scope['environment'])}" if scope.get("environment") else "",
        f"branches {', '.join(plain(one) for one in branches)}" if isinstance(branches, list) and branches else "",
        "pull requests, too" if scope.get("pull_requests") else "",
    ]
    return "; ".join(filter(None, parts)) or "all jobs"


@secrets.command()
@click.argument("secret")
@pass_session
def show(session: Session, secret: str) -> None:
    """Print what is known of a SECRET, and its versions; its value is never shown."""
    client = session.client
    found = client.json(endpoints.SECRET, secret_id=secret)
    if session.quiet:
        output.line(found.get("secret_id"))
        return
    found["versions"] = members(client.json(endpoints.SECRET_VERSIONS, secret_id=secret), "versions")
    session.show(found, "secret_id", _members)
    if not session.as_json:
        output.write("\n")
        columns = [
            Column("VERSION", whole=True),
            Column("STATE", coloured=True),
            Column("FINGERPRINT", whole=True),
            Column("BY"),
            Column("CREATED"),
        ]
        names = ("version", "state", "fingerprint", "created_by", "created_at")
        output.table(columns, [[one.get(name) for name in names] for one in found["versions"]], colour=session.colour)


def _members(secret: Json) -> list[tuple[str, object]]:
    return [
        ("Secret", secret.get("secret_id")),
        ("For", _scope_text(secret.get("scope"))),
        ("Description", secret.get("description")),
        ("Owner", secret.get("owner")),
        ("Version", secret.get("version")),
        ("Fingerprint", secret.get("fingerprint")),
        ("Changed", f"{plain(secret.get('changed_at'))} by {plain(secret.get('changed_by'))}"),
        ("Last used", secret.get("delivered_at") or "never"),
    ]


@secrets.command("set")
@click.argument("secret")
@click.option("--pipeline", metavar="NAME", help="Only for jobs of this pipeline.")
@click.option("--environment", metavar="NAME", help="Only for jobs with this environment.")
@click.option("--branch", "branches", multiple=True, metavar="PATTERN", help="Only for jobs of such a branch.")
@click.option("--pull-requests", is_flag=True, help="Also for jobs of pull requests, but never of forks.")
@click.option("--description", metavar="TEXT", help="What it is for. Only for a new one.")
@click.option("--owner", metavar="NAME", help="Who answers for it. Only for a new one.")
@pass_session
def set_(
    session: Session,
    secret: str,
    pipeline: str | None,
    environment: str | None,
    branches: tuple[str, ...],
    pull_requests: bool,
    description: str | None,
    owner: str | None,
) -> None:
    """Give a SECRET a value: a new one if there is none of this name for the same jobs.

    The value is standard input, without a line end at its end, or asked for on the terminal.
    """
    scope: dict[str, Any] = {
        "pipeline": pipeline,
        "environment": environment,
        "branches": sorted(branches),
        "pull_requests": pull_requests,
    }
    client = session.client
    secret_id = secret if "." in secret else _of_scope(session, secret, scope)
    if "." in secret and any(scope.values()):
        raise UsageProblem("The id of a secret has its scope already: leave out the options.")
    if secret_id is not None and (description or owner):
        raise UsageProblem("There is such a secret already: leave out --description and --owner.")
    value = _value()
    if secret_id is not None:
        found = client.json(endpoints.SECRET_SET, secret_id=secret_id, body={"value": value})
    else:
        body: dict[str, Any] = {"name": secret, "value": value, "description": description, "owner": owner}
        body["scope"] = {name: given for name, given in scope.items() if given}
        found = client.json(endpoints.SECRET_CREATE, body={name: given for name, given in body.items() if given})
    session.show(found, "secret_id", _members)


def _of_scope(session: Session, name: str, scope: Json) -> str | None:
    """The id of the secret of this name and scope, if there is one."""
    for one in session.listed(endpoints.SECRETS, "secrets", limit=None, whole=True)["secrets"]:
        known = one.get("scope") if isinstance(one.get("scope"), dict) else {}
        same = {**scope, **{member: known.get(member) for member in ("pipeline", "environment")}}
        same["branches"] = sorted(map(str, known.get("branches") or []))
        same["pull_requests"] = bool(known.get("pull_requests"))
        if one.get("name") == name and same == scope:
            return text(one, "secret_id")
    return None


def _value() -> str:
    """The value of a secret. Raises UsageProblem."""
    if sys.stdin.isatty():
        value: str = click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
        return value
    try:
        content = sys.stdin.buffer.read(_VALUE_BYTES + 2).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageProblem("The value must be UTF-8. Encode binary data, for example as base64.") from None
    value = content[:-1] if content.endswith("\n") else content
    if not value:
        raise UsageProblem("Standard input is empty, so there is no value.")
    return value


@secrets.command()
@click.argument("secret")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def delete(session: Session, secret: str, yes: bool) -> None:
    """Delete a SECRET and its values. Jobs that name it fail from then on."""
    if not yes:
        if not sys.stdin.isatty():
            raise UsageProblem("There is no terminal to ask on. If you are sure, give --yes.")
        if not click.confirm(f"Delete {plain(secret)} and its values?", err=True):
            raise Ended(Exit.FAILED)
    session.client.call(endpoints.SECRET_DELETE, secret_id=secret)
    if session.as_json:
        output.document({"secret_id": secret, "deleted": True})
    else:
        session.notice(f"Deleted {plain(secret)}.")


@secrets.command()
@click.argument("secret")
@pass_session
def rotate(session: Session, secret: str) -> None:
    """Begin a rotation of a SECRET. `hci rotations show` says how far it is."""
    session.show(session.client.json(endpoints.SECRET_ROTATE, secret_id=secret), "rotation_id", rotation_members)


def rotation_members(rotation: Json) -> list[tuple[str, object]]:
    return [
        ("Rotation", rotation.get("rotation_id")),
        ("Secret", rotation.get("secret_id")),
        ("State", rotation.get("state")),
        ("Versions", f"{plain(rotation.get('old_version'))} to {plain(rotation.get('new_version') or 'the next one')}"),
        ("Began", f"{plain(rotation.get('began_at'))} by {plain(rotation.get('requested_by'))}"),
        ("New value current since", rotation.get("activated_at")),
        ("Old value valid until", rotation.get("overlap_until")),
        ("Ended", rotation.get("ended_at")),
        ("Why", rotation.get("message")),
    ]
