"""Artifacts: listed, fetched whole or not at all, and verified."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client
from tests.jobs.archives import Transfers
from tests.jobs.test_provenance import _places, keys_file
from tests.signing import AgentClient

__all__ = ["_places"]


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("UP", ".."))
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return packed.getvalue()


DATA = archive(out__report=b"all well")


@pytest.fixture
def stored(user: Client, agent: AgentClient, make_job: Callable[..., str]) -> dict[str, Any]:
    """A job that has ended, and its artifact."""
    make_job(git_ref="main")
    transfers = Transfers(agent, agent.take())
    transfers.artifact(DATA, name="reports")
    agent.finish(transfers.assignment)
    (found,) = hci("artifacts", "list", str(transfers.assignment["job_id"]), "--json").json["artifacts"]
    return dict(found)


def test_artifacts_are_fetched_checked_and_not_fetched_twice(stored: dict[str, Any], tmp_path: Path) -> None:
    assert "reports" in hci("artifacts", "list", stored["run_id"]).out
    folder = tmp_path / "a" / "b"
    ended = hci("artifacts", "get", stored["run_id"], "--output", str(folder))
    assert (ended.code, ended.err.split(":")[0]) == (0, "Fetched")
    (file,) = folder.iterdir()
    assert file.read_bytes() == DATA
    again = hci("artifacts", "get", stored["job_id"], "reports", "--output", str(folder), "--extract", "-q")
    assert (again.code, again.out) == (0, f"{file}\n")
    assert (folder / file.name.split(".tar")[0] / "out" / "report").read_bytes() == b"all well"
    assert hci("artifacts", "get", stored["job_id"], "nothing").code == 3
    assert hci("artifacts", "get", stored["job_id"], "--output", str(file)).code == 2


def test_an_artifact_is_verified_by_its_provenance(stored: dict[str, Any], user: Client, tmp_path: Path) -> None:
    file = tmp_path / "reports.tar.gz"
    file.write_bytes(DATA)
    command = ("artifacts", "verify", str(file), "--keys", str(keys_file(tmp_path)))
    by_job = hci(*command, "--job", stored["job_id"], "--expect", f"builder={user.server}/", "--json")
    assert (by_job.code, by_job.json["sha256"]) == (0, stored["sha256"])
    provenance = tmp_path / "provenance.json"
    provenance.write_text(user.get(f"/artifacts/{stored['artifact_id']}/provenance").text)
    from_file = (*command, "--provenance", str(provenance))
    said = hci(*from_file)
    assert (said.code, "--expect" in said.err) == (0, True)
    assert hci(*from_file, "--expect", "repository=https://evil.example/x").code == 1
    assert hci(*from_file, "--expect", "repository").code == 2
    assert hci(*command).code == 2
    changed = json.loads(provenance.read_text())
    changed["payload"] = changed["payload"][:-8] + "AAAAAAA="
    provenance.write_text(json.dumps(changed))
    assert hci(*from_file).code == 1
    for nonsense in ("{}", "[]", "{", '{"payloadType": 1}'):
        provenance.write_text(nonsense)
        assert hci(*from_file).code in (1, 2)
    file.write_bytes(DATA + b"more")
    assert hci(*command, "--job", stored["job_id"]).code == 3


def listed(data: bytes, **members: Any) -> list[bytes]:
    """What a control plane answers that has one artifact, and then where it is."""
    artifact = {
        "artifact_id": "a",
        "name": "out",
        "node": "build",
        "media": "application/x-tar+gzip",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        **members,
    }
    return [answer({"job_id": "j"}), answer({"artifacts": [artifact]}), REDIRECT]


REDIRECT = answer(status="302 Found", Location="/files/a?signature=x")


def ranged(data: bytes, first: int, end: int | None = None) -> bytes:
    """A part of the data, which announces all that is left."""
    head = answer(
        data[first:], status="206 Partial Content", Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}"
    )
    return head if end is None else head[: len(head) - len(data) + end]


def test_a_download_that_is_cut_off_goes_on_and_sends_no_token_to_the_storage(
    scripted: Scripted, tmp_path: Path
) -> None:
    data = os.urandom(100_000)
    scripted.answers = [*listed(data), ranged(data, 0, 60_000), REDIRECT, ranged(data, 60_000)]
    ended = hci("artifacts", "get", "j", "-o", str(tmp_path))
    assert ended.code == 0, ended.err
    assert (tmp_path / "build-out.tar.gz").read_bytes() == data
    downloads = [request for request in scripted.asked if b"/files/a" in request]
    assert b"range: bytes=60000-" in downloads[1].lower()
    assert all(b"authorization" not in request.lower() for request in downloads)


def test_a_storage_without_ranges_sends_all_of_it_again(scripted: Scripted, tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / f"build-out.tar.gz.{hashlib.sha256(data).hexdigest()[:12]}.part").write_bytes(b"x" * 300)
    scripted.answers = [*listed(data), answer(data)]
    assert hci("artifacts", "get", "j", "-o", str(tmp_path)).code == 0
    assert (tmp_path / "build-out.tar.gz").read_bytes() == data


def test_what_has_another_digest_is_not_kept(scripted: Scripted, tmp_path: Path) -> None:
    scripted.answers = [*listed(b"what was announced"), answer(b"what is delivered!")]
    ended = hci("artifacts", "get", "j", "-o", str(tmp_path))
    assert (ended.code, "SHA-256" in ended.err) == (1, True)
    assert list(tmp_path.glob("build*")) == []


def test_a_download_longer_than_announced_ends(scripted: Scripted, tmp_path: Path) -> None:
    scripted.answers = [*listed(b"short"), answer(b"short" + b"x" * 10_000_000)]
    assert hci("artifacts", "get", "j", "-o", str(tmp_path)).code == 1
    assert sum(path.stat().st_size for path in tmp_path.glob("build*")) < 1_000_000


def test_a_download_that_gets_no_further_ends(scripted: Scripted, tmp_path: Path) -> None:
    def in_turn(request: bytes) -> bytes:
        return answer(b"", status="500 Broken") if b"/files/a" in request else REDIRECT

    scripted.answers = [*listed(b"data")[:2], in_turn]
    assert hci("artifacts", "get", "j", "-o", str(tmp_path)).code == 5


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "..", ".bashrc", "a\x00b", "x" * 5000, "-rf", ""])
def test_the_name_of_an_artifact_leads_nowhere_else(scripted: Scripted, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "into"
    scripted.answers = [*listed(b"data", name=name, node=name, media="../x"), answer(b"data")]
    assert hci("artifacts", "get", "j", "-o", str(folder)).code == 0
    (file,) = folder.iterdir()
    assert not file.name.startswith((".", "-"))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "settings") == ["into"]


def test_an_archive_that_leads_out_of_the_folder_is_fetched_and_not_unpacked(
    scripted: Scripted, tmp_path: Path
) -> None:
    data = archive(out__report=b"all well", UP__evil=b"x")
    scripted.answers = [*listed(data), answer(data)]
    ended = hci("artifacts", "get", "j", "-o", str(tmp_path / "into"), "--extract")
    assert (ended.code, "'../evil' would be outside of the folder." in ended.err) == (1, True)
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["build-out.tar.gz"]
