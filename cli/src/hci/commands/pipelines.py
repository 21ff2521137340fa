"""``hci pipelines``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hci import endpoints, output
from hci.client import ApiError, Json, members
from hci.client import text as member
from hci.errors import Exit, UsageProblem
from hci.output import Column
from hci.session import HciGroup, Session, limit_option, pass_session
from hci.text import plain, plain_lines
from hci.times import age

# The API takes no longer file.
_DEFINITION_BYTES = 64 * 1024
_PRODUCTS = ["github", "gitlab", "buildkite"]
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=HciGroup)
def pipelines() -> None:
    """List, look at, check, import, and save pipelines."""


@pipelines.command("list")
@limit_option
@pass_session
def list_(session: Session, limit: int | None) -> None:
    """List the pipelines by name."""
    session.rows(
        session.listed(endpoints.PIPELINES, "pipelines", limit=limit),
        "pipelines",
        "name",
        [
            (Column("PIPELINE", whole=True), lambda one: one.get("name")),
            (Column("REPOSITORY"), lambda one: one.get("repository")),
            (Column("REF"), lambda one: one.get("default_ref")),
            (Column("STEPS FROM"), lambda one: "repository" if one.get("definition") is None else "control plane"),
            (Column("PAUSED", right=True), lambda one: age(one.get("paused_at"))),
            (Column("CHANGED", whole=True, right=True), lambda one: age(one.get("updated_at"))),
        ],
    )


@pipelines.command()
@click.argument("name")
@pass_session
def get(session: Session, name: str) -> None:
    """Print a pipeline, and its definition if the control plane has it."""
    found = session.client.json(endpoints.PIPELINE, name=name)
    session.show(found, "name", _members)
    if found.get("definition") and not (session.as_json or session.quiet):
        output.write(f"\n{plain_lines(found['definition'])}\n")


def _members(pipeline: Json) -> list[tuple[str, object]]:
    paused = (
        f"since {plain(pipeline['paused_at'])} by {plain(pipeline['paused_by'])}" if pipeline.get("paused_at") else ""
    )
    return [
        ("Pipeline", pipeline.get("name")),
        ("Repository", pipeline.get("repository")),
        ("Default ref", pipeline.get("default_ref")),
        ("Labels", ", ".join(map(str, pipeline.get("labels") or []))),
        ("Events from", f"{pipeline['source']}: {pipeline.get('source_repository')}" if pipeline.get("source") else ""),
        ("Fetched with", pipeline.get("fetch_secret")),
        ("Badge", "public" if pipeline.get("badge") else "private"),
        ("Paused", paused),
        ("Revision", pipeline.get("revision")),
        ("Changed", pipeline.get("updated_at")),
    ]


@pipelines.command()
@click.argument("name")
@click.argument("file", required=False)
@click.option("--repository", metavar="URL", help="Where its code is. Needed for a new pipeline.")
@click.option("--ref", metavar="REF", help="What a run builds if it names nothing.")
@click.option("--label", "labels", multiple=True, metavar="LABEL", help="A label that agents must have.")
@click.option("--from-repository", is_flag=True, help="Take the steps from .hybrid-ci.yml in the repository.")
@click.option("--fetch-secret", metavar="SECRET", help="With which secret agents fetch the repository; “” for none.")
@click.option("--connection", metavar="ID", help="Whose events start runs; “” for none.")
@click.option("--connection-repository", metavar="OWNER/NAME", help="The repository there, given with --connection.")
@click.option("--public-badge/--private-badge", default=None, help="Whether everyone may see its badge.")
@pass_session
def put(
    session: Session,
    name: str,
    file: str | None,
    repository: str | None,
    ref: str | None,
    labels: tuple[str, ...],
    from_repository: bool,
    fetch_secret: str | None,
    connection: str | None,
    connection_repository: str | None,
    public_badge: bool | None,
) -> None:
    """Create a pipeline, or change one. Its definition is in FILE; “-” is standard input.

    What you leave out stays as it is. A new pipeline without FILE takes its steps from the repository.
    """
    if file and from_repository:
        raise UsageProblem("Give a FILE or --from-repository, not both.")
    definition = _definition(file) if file else None
    body = _present(session, name)
    given: dict[str, Any] = {
        "repository": repository,
        "default_ref": ref,
        "labels": list(labels) or None,
        "fetch_secret": fetch_secret,
        "source": connection,
        "source_repository": connection_repository,
        "badge": public_badge,
    }
    body.update({member: value for member, value in given.items() if value is not None})
    if file or from_repository:
        body["definition"] = definition
    if "repository" not in body:
        raise UsageProblem(f"There is no pipeline “{name[:100]}”. For a new one, give --repository.")
    session.show(session.client.json(endpoints.PIPELINE_SAVE, name=name, body=body), "name", _members)


def _bytes(file: str) -> bytes:
    """The content, of which no more is read than the API takes and a byte."""
    if file == "-":
        return sys.stdin.buffer.read(_DEFINITION_BYTES + 1)
    with Path(file).open("rb") as opened:
        return opened.read(_DEFINITION_BYTES + 1)


def _definition(file: str) -> str:
    try:
        content = _bytes(file)
        if len(content) > _DEFINITION_BYTES:
            raise UsageProblem(f"{file} must have at most {_DEFINITION_BYTES:,} bytes.")
        return content.decode("utf-8")
    except OSError as error:
        raise UsageProblem(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UsageProblem(f"{file} is not UTF-8.") from None


@pipelines.command()
@click.argument("file", default=".hybrid-ci.yml", metavar="[FILE]")
@pass_session
def check(session: Session, file: str) -> None:
    """Check a pipeline file, by default .hybrid-ci.yml, and save nothing; “-” is standard input.

    Each mistake is named with its line. Exit code 2 if there is one.
    """
    found = session.client.json(endpoints.DEFINITION_CHECK, body={"definition": _definition(file)})
    if session.as_json:
        output.document(found)
    else:
        jobs = found.get("jobs") or []
        session.notice(f"{file} is valid. Its jobs: {', '.join(plain(one) for one in jobs)}")


@pipelines.command("import")
@click.argument("file")
@click.option("--from", "product", type=click.Choice(_PRODUCTS), required=True, help="Whose file it is.")
@click.option("-o", "--output", "target", type=_FILE, metavar="FILE", help="A new file. Default: standard output.")
@pass_session
def import_(session: Session, file: str, product: str, target: Path | None) -> None:
    """Convert a FILE of another product to a pipeline file; “-” is standard input. Nothing is saved on the server.

    What a user has to look at is named with its line. Files that FILE includes are not read.
    """
    text = _definition(file)
    if target is not None and target.exists():
        raise UsageProblem(f"{target} exists already. Remove it, or name another file.")
    found = session.client.json(endpoints.DEFINITION_IMPORT, body={"product": product, "text": text})
    definition = member(found, "definition")
    if target is not None:
        _write_new(target, definition)
    if session.as_json:
        output.document(found)
        return
    if target is None:
        output.write_file(definition.encode())
    for remark in members(found, "remarks"):
        session.notice(f"{file}:{remark.get('line')}: {remark.get('subject')}: {remark.get('message')}")
    session.notice(f"Jobs: {found.get('jobs')}, of which {found.get('whole')} need no more work by hand")


def _write_new(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(content)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written: {error.strerror}.") from error


def _present(session: Session, name: str) -> dict[str, Any]:
    """The members of the pipeline as they are, or none."""
    try:
        found = session.client.json(endpoints.PIPELINE, name=name)
    except ApiError as error:
        if error.exit_code != Exit.NOT_FOUND:
            raise
        return {}
    return {member: found.get(member) for member in endpoints.PIPELINE_SAVE.body}
