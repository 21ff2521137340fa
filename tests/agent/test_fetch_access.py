"""Private repositories: the agent fetches them with what the control plane gives, and keeps nothing of it."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from agent.fetch_access import NO_ACCESS, FetchAccess, fetch_access
from agent.job_ends import JobFailed
from agent.job_secrets import AttemptKey
from tests.agent.conftest import AgentProcess
from tests.agent.fake_server import FakeControlPlane, FakeJob
from tests.agent.git_server import GitServer
from tests.live_files import files_with
from tests.repositories import BareRepository, Entry

TOKEN = "ghs_canary16C7e42F292c6912E7710c838347Ae178B4a"
TRACES = (TOKEN.encode(), base64.b64encode(f"x-access-token:{TOKEN}".encode())[8:40], b"canary16C7e42F292c6912")
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanaryb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """A server that demands the token for everything."""
    folder = tmp_path / "origin"
    folder.mkdir()
    server = GitServer(folder, lambda user, password, _: (user, password) == ("x-access-token", TOKEN))
    yield server
    server.close()


def repository(server: GitServer, name: str = "app", entries: dict[str, Entry] | None = None) -> tuple[str, str]:
    """The address and the commit of a new repository on the server."""
    folder = Path(server.folder) / "acme"
    folder.mkdir(exist_ok=True)
    commit = BareRepository(folder / f"{name}.git").commit("main", entries or {"name": f"{name}\n".encode()})
    return f"{server.url}/acme/{name}.git", commit


def access(server: GitServer, **members: str) -> dict[str, str]:
    return {"url": f"{server.url}/", "username": "x-access-token", "password": TOKEN, "realm": "github", **members}


def command_lines() -> bytes:
    """The command lines and environments of all processes that this user can see, but for this one's own."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += path.read_bytes()
    return found


def ended(plane: FakeControlPlane, job: FakeJob) -> str | None:
    """The error message with which the job ended."""
    return plane.finished(job, 30)["error_message"]


def test_a_private_repository_is_fetched_and_nothing_of_the_token_is_left(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    url, _ = repository(server)
    seen: list[bytes] = []
    server.watch = lambda: seen.append(command_lines())
    script = "cat name; cat .git/config; git config --list --show-origin; env; git fetch origin 2>&1 || echo no access"
    job = shared_plane.add_job(url, run=f"{script}; echo printed {TOKEN}", fetch=access(server))
    assert ended(shared_plane, job) is None
    assert "app\n" in job.text
    assert "printed ***\n" in job.text
    assert "no access\n" in job.text
    assert "HYBRID_CI_FETCH" not in job.text
    assert set(server.given) == {("x-access-token", TOKEN)}
    assert any(b"git-remote-http" in one for one in seen)
    for trace in TRACES:
        assert not any(trace in one for one in seen)
        assert trace not in job.log + shared_agent.output.encode() + repr(job.finish).encode()
    assert files_with(TRACES, shared_agent.state.parent, *Path("/dev/shm").glob("hybrid-ci-*")) == []


def test_a_token_that_is_not_accepted_fails_the_job_without_showing_it(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    url, _ = repository(server)
    job = shared_plane.add_job(url, run="echo never", fetch=access(server, password=f"{TOKEN}x"))
    error = ended(shared_plane, job)
    assert error is not None
    assert error.startswith("The repository could not be fetched: ")
    assert "canary" not in error + job.text
    assert job.finish is not None
    assert job.finish["agent_fault"] is None


FITTING = {"url": "https://git.example.com/", "username": "x", "password": TOKEN}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**FITTING, "url": "https://git.example.org/"}, "The credentials of this job are for https://git.example.org"),
        ({**FITTING, "url": "https://git.example.com/acme/app"}, "its repository is elsewhere"),
        ({**FITTING, "url": "http://git.example.com/"}, "cannot open the credentials"),
        ({**FITTING, "password": "x\nurl=https://evil.example"}, "cannot open the credentials"),
        ({**FITTING, "private_key": KEY}, "cannot open the credentials"),
        ({}, "cannot open the credentials"),
        ([], "cannot open the credentials"),
        (None, "cannot open the credentials"),
    ],
)
def test_credentials_that_do_not_fit_fail_the_job_with_the_reason(document: object, message: str) -> None:
    with pytest.raises(JobFailed, match=message) as failure:
        opened(document)
    assert "canary" not in str(failure.value)


@pytest.mark.parametrize("purpose", ["secrets", "fetch"])
def test_credentials_are_for_one_purpose_of_one_attempt(purpose: str) -> None:
    with pytest.raises(JobFailed, match="cannot open the credentials"):
        opened(FITTING, purpose=purpose, attempt=1 if purpose == "secrets" else 2)
    assert opened(FITTING) == FetchAccess(url="https://git.example.com/", username="x", password=TOKEN)
    url = "https://git.example.com/acme/app.git"
    assert fetch_access(None, AttemptKey(), repository=url, agent_id="a", job=("j", 1)) is NO_ACCESS


def opened(document: object, *, purpose: str = "fetch", attempt: int = 1) -> FetchAccess:
    """What the first attempt of a job finds in a message of this purpose to this attempt."""
    key = AttemptKey()
    public = X25519PublicKey.from_public_bytes(base64.b64decode(key.public))
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    info = f"hybrid-ci {purpose}\0a\0j\0{attempt}".encode()
    encrypted = base64.b64encode(suite.encrypt(json.dumps(document).encode(), public, info)).decode()
    return fetch_access(encrypted, key, repository="https://git.example.com/acme/app.git", agent_id="a", job=("j", 1))


def test_no_other_server_gets_the_token(
    tmp_path: Path, shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = GitServer(other_folder, lambda *_: False)
    try:
        listed = f'[submodule "lib"]\n\tpath = lib\n\turl = {other.url}/lib.git\n'
        url, _ = repository(server, entries={".gitmodules": listed.encode(), "lib": "1" * 40})
        job = shared_plane.add_job(url, submodules=True, fetch=access(server))
        assert "The submodules could not be fetched" in (ended(shared_plane, job) or "")
        server.redirects["/acme/app.git/info/refs"] = f"{other.url}/acme/app.git/info/refs"
        job = shared_plane.add_job(url, fetch=access(server))
        assert "The repository could not be fetched" in (ended(shared_plane, job) or "")
        assert other.given == []
    finally:
        other.close()


@pytest.mark.parametrize("whole_server", [True, False])
def test_submodules_of_the_server_are_fetched_with_a_token_for_all_of_it(
    whole_server: bool, shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    _, commit = repository(server, "lib")
    listed = b'[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n'
    url, _ = repository(server, entries={".gitmodules": listed, "lib": commit})
    fetch = access(server) if whole_server else access(server, url=url)
    job = shared_plane.add_job(url, run="cat lib/name", submodules=True, fetch=fetch)
    error = ended(shared_plane, job)
    assert (error is None) == whole_server
    assert ("lib\n" in job.text) == whole_server


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_files_of_lfs_are_fetched_from_the_server_and_no_other_gets_the_token(
    elsewhere: bool, tmp_path: Path, shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    content = b"large\0" * 100
    oid = hashlib.sha256(content).hexdigest()
    server.large[oid] = content
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    entries: dict[str, Entry] = {".gitattributes": b"*.bin filter=lfs -text\n", "large.bin": pointer.encode()}
    (tmp_path / "other").mkdir()
    other = GitServer(tmp_path / "other", lambda *_: False)
    if elsewhere:
        entries[".lfsconfig"] = f"[lfs]\n\turl = {other.url}/acme/app.git/info/lfs\n".encode()
    url, _ = repository(server, entries=entries)
    job = shared_plane.add_job(url, run="wc -c < large.bin; git config --list", fetch=access(server))
    error = ended(shared_plane, job)
    other.close()
    assert other.given == []
    assert (error is None, "600\n" in job.text) == (not elsewhere, not elsewhere)
    assert "canary" not in job.text + (error or "")


def test_a_pipeline_without_the_credentials_gets_nothing_from_the_mirror(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, server: GitServer
) -> None:
    url, commit = repository(server)
    for _ in range(2):
        assert ended(shared_plane, shared_plane.add_job(url, fetch=access(server))) is None
    assert server.fetches == 1
    strangers = (None, access(server, realm="another", password="no-token"))
    for job in [shared_plane.add_job(url, commit, run="cat name", fetch=fetch) for fetch in strangers]:
        assert "could not be fetched" in (ended(shared_plane, job) or "")
        assert "app\n" not in job.text


def test_a_deploy_key_is_a_file_for_as_long_as_git_needs_it(tmp_path: Path, plane: FakeControlPlane) -> None:
    bare = BareRepository(tmp_path / "app.git")
    bare.commit("main", {"name": b"app\n"})
    # In place of ssh: it notes what it gets, and runs what the other side would run.
    note, ssh = tmp_path / "note", tmp_path / "ssh"
    ssh.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$*" >> {note}
while [ "$1" != -i ]; do shift; done
stat -c %a "$2" >> {note}; cat "$2" >> {note}
exec git-upload-pack {bare.path}
"""
    )
    ssh.chmod(0o755)
    agent = AgentProcess(tmp_path / "machine", plane)
    agent.start(command=["env", f"GIT_SSH_COMMAND={ssh}", sys.executable, "-m", "agent"])
    try:
        fetch = {"private_key": KEY.replace("\n", "\r\n"), "realm": "secret"}
        script = f"cat name; cat $(tr ' ' '\\n' < {note} | grep fetch-key) || echo gone; echo $GIT_SSH_COMMAND"
        job = plane.add_job("ssh://git@git.example.com/acme/app.git", run=script, fetch=fetch)
        assert ended(plane, job) is None
        assert "app\n" in job.text
        assert "gone\n" in job.text
        noted = note.read_text()
        assert f"\n600\n{KEY}\n" in noted
        assert "-o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes" in noted
        assert "canary" not in job.text + agent.output
    finally:
        agent.stop()


def test_options_have_no_secret() -> None:
    one = FetchAccess(url="https://git.example.com/", username="x", password=TOKEN)
    assert TOKEN not in " ".join(one.options()) + repr(one)
    key = FetchAccess(private_key=KEY)
    assert key.options() == []
    assert "canary" not in repr(key)
    assert "canaryb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=" in key.values
