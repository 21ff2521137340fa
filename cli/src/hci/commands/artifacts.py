"""``hci artifacts``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hci import endpoints, output
from hci.client import Json, members, text
from hci.download import Download, filenames, folder_make, sha256_of
from hci.errors import NotThere, UsageProblem
from hci.output import Column
from hci.places import run_or_job
from hci.provenance import require, statement_verified
from hci.session import HciGroup, Session, pass_session
from hci.text import plain
from hci.times import age
from hci.unpack import unpack

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_PROVENANCE_BYTES = 1024 * 1024


@click.group(cls=HciGroup)
def artifacts() -> None:
    """List, fetch, and verify artifacts."""


def _found(session: Session, identifier: str) -> Json:
    """The artifacts of a run or of a job."""
    kind, _ = run_or_job(session.client, identifier)
    if kind == "run":
        return session.client.pages(endpoints.RUN_ARTIFACTS, "artifacts", limit=None, run_id=identifier)
    found = session.client.json(endpoints.JOB_ARTIFACTS, job_id=identifier)
    members(found, "artifacts")
    return found


def _size(count: object) -> str:
    size = float(count) if isinstance(count, int) else 0.0
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


@artifacts.command("list")
@click.argument("identifier", metavar="RUN|JOB")
@pass_session
def list_(session: Session, identifier: str) -> None:
    """List the artifacts of a RUN or a JOB."""
    session.rows(
        _found(session, identifier),
        "artifacts",
        "artifact_id",
        [
            (Column("NAME", whole=True), lambda one: one.get("name")),
            (Column("JOB"), lambda one: one.get("node")),
            (Column("ATTEMPT", right=True), lambda one: one.get("attempt")),
            (Column("FILES", right=True), lambda one: one.get("files")),
            (Column("SIZE", whole=True, right=True), lambda one: _size(one.get("size"))),
            (Column("STORED", whole=True, right=True), lambda one: age(one.get("stored_at"))),
            (Column("SHA-256"), lambda one: one.get("sha256")),
        ],
    )


@artifacts.command()
@click.argument("identifier", metavar="RUN|JOB")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-o", "--output", "folder", type=_FOLDER, default=Path(), metavar="FOLDER", help="Where to. Default: here."
)
@click.option("--extract", is_flag=True, help="Unpack each archive into a folder of its name.")
@pass_session
def get(session: Session, identifier: str, names: tuple[str, ...], folder: Path, extract: bool) -> None:
    """Fetch the artifacts of a RUN or a JOB: all, or those of these NAMEs.

    What is there already is not fetched again. An interrupted download goes on. The SHA-256 of each must be right.
    """
    found = [one for one in _found(session, identifier)["artifacts"] if not names or one.get("name") in names]
    missing = set(names) - {one.get("name") for one in found}
    if missing or not found:
        raise NotThere(f"There is no artifact {plain(', '.join(sorted(missing)))}." if missing else "There are none.")
    place = folder_make(folder)
    files = []
    for artifact, name in filenames(found):
        target = place / name
        fetched = Download(session.client, artifact, target).fetch()
        session.notice(f"{'Fetched' if fetched else 'There already'}: {folder / name}")
        if extract:
            unpack(target, place / name.split(".tar")[0])
        files.append({**artifact, "file": str(target)})
    if session.as_json:
        output.document({"artifacts": files})
    elif session.quiet:
        output.write("".join(f"{one['file']}\n" for one in files))


@artifacts.command()
@click.argument("file", type=_FILE)
@click.option("--keys", type=_FILE, required=True, metavar="PEM", help="What `manage.py audit_public_key` prints.")
@click.option("--provenance", type=_FILE, metavar="FILE", help="The provenance, if you have it.")
@click.option("--job", metavar="JOB", help="Ask the control plane for the provenance of this job's artifact.")
@click.option("--expect", multiple=True, metavar="NAME=VALUE", help="What it must say, as builder, repository, ref.")
@pass_session
def verify(
    session: Session, file: Path, keys: Path, provenance: Path | None, job: str | None, expect: tuple[str, ...]
) -> None:
    """Check that FILE is the artifact that its signed provenance is about.

    Get the keys once, from a machine that you trust. Expect at least builder and repository: without them, any
    artifact of the control plane is accepted.
    """
    wanted = dict(_expected(one) for one in expect)
    if (provenance is None) == (job is None):
        raise UsageProblem("Give --provenance FILE or --job JOB.")
    digest = sha256_of(file)
    envelope = _envelope(provenance) if provenance else _envelope_of(session, str(job), digest)
    said = statement_verified(envelope, keys.read_text(encoding="utf-8", errors="replace"), sha256=digest)
    require(said, wanted)
    if session.as_json:
        output.document({"file": str(file), "sha256": digest, **said})
        return
    session.notice(
        f"{file} was built by {plain(said['builder'])} from {plain(said.get('repository'))} {plain(said.get('ref'))} "
        f"at {plain(said.get('commit'))}."
    )
    if not {"builder", "repository"} <= set(wanted):
        session.notice("Any artifact of this control plane is accepted so. See --expect.")


def _expected(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name and equals):
        raise UsageProblem(f"--expect must be NAME=VALUE, not “{given[:100]}”.")
    return name, value


def _envelope(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        found = json.loads(content) if len(content) <= _PROVENANCE_BYTES else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageProblem(f"{path} is no provenance.")
    return found


def _envelope_of(session: Session, job: str, digest: str) -> dict[str, Any]:
    """The provenance of the job's artifact with this SHA-256. Raises NotThere."""
    found = session.client.json(endpoints.JOB_ARTIFACTS, job_id=job)
    for artifact in members(found, "artifacts"):
        if artifact.get("sha256") == digest:
            return session.client.json(endpoints.ARTIFACT_PROVENANCE, artifact_id=text(artifact, "artifact_id"))
    raise NotThere(f"The job has no artifact with the SHA-256 {digest}.")
