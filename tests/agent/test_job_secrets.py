"""Secrets of a job reach its steps, and nothing else: no log, no disk, no other process."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.bundle import agent_bundle
from agent.private_folder import private_folder
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane, FakeJob
from tests.agent.fake_store import FakeStore
from tests.agent.storage import FakeStorage
from tests.live_files import files_with

CANARY = "canary-Zx81/+é'\"$"
CONFIG = "apiVersion: v1\nuser: canary-second-value-77\n"
VALUES = {"TOKEN": CANARY, "KUBECONFIG": CONFIG}
# What the canaries have in common, in the forms that a careless program would store.
TRACES = (b"canary-Zx81", b"canary-second", base64.b64encode(b"canary-Zx81/"), b"canary-Zx81/".hex().encode())
MASK = f'"{sys.executable}" "$HYBRID_CI_AGENT" mask'


@pytest.fixture
def store(tmp_path: Path, shared_plane: FakeControlPlane) -> Iterator[FakeStore]:
    storage = FakeStorage(tmp_path / "storage")
    store = shared_plane.store = FakeStore(storage)
    yield store
    shared_plane.store = None
    storage.close()


def run(plane: FakeControlPlane, history: History, script: str | list[dict[str, Any]], **members: Any) -> FakeJob:
    steps = {"run": script} if isinstance(script, str) else {"steps": script}
    members = {"secret_values": VALUES, "files": ["KUBECONFIG"], **members}
    job = plane.add_job(history.url, "main", **steps, **members)
    plane.finished(job, 30)
    return job


def private_dirs(agent: AgentProcess) -> list[Path]:
    return list(Path("/dev/shm").glob(f"hybrid-ci-*-{(agent.state / 'marker').read_text()[:12]}"))


def test_all_steps_get_secrets_as_variables_and_files(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = f'printf %s "$TOKEN" > {out}.$N; cat "$KUBECONFIG" > {out}.file.$N; stat -c "%a %U" "$KUBECONFIG"; '
    script += 'stat -f -c "file system: %T" "$KUBECONFIG"; echo "limit $(ulimit -Sc) $(ulimit -Hc)"; echo "$KUBECONFIG"'
    job = run(shared_plane, history, [{"name": f"step {n}", "run": f"N={n}; {script}"} for n in (1, 2)])
    assert job.finish is not None
    assert job.finish["error_message"] is None
    for number in (1, 2):
        assert Path(f"{out}.{number}").read_text() == CANARY
        assert Path(f"{out}.file.{number}").read_text() == CONFIG
    assert job.text.count("600 ") == 2
    if private_dirs(shared_agent):
        assert "file system: tmpfs\n" in job.text
    assert "limit 0 0\n" in job.text
    (path,) = {Path(line) for line in job.text.splitlines() if line.endswith("/KUBECONFIG")}
    assert not path.exists()
    assert not path.parent.exists()
    # One key for one attempt.
    other = run(shared_plane, history, "true")
    assert len({*job.keys, *other.keys}) == 2


def test_secrets_come_with_the_definition_of_the_repository_too(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"steps: [{run: 'true'}]", "secrets-in-the-repository")
    answer = {"steps": [{"name": "s", "run": 'echo "${#TOKEN} $TOKEN"'}], "secrets": [{"name": "TOKEN"}]}
    job = shared_plane.add_job(
        history.url, branch, from_repository=True, definition_answer=(200, answer), secret_values=VALUES
    )
    assert shared_plane.finished(job)["error_message"] is None
    assert f"{len(CANARY.encode())} ***\n" in job.text
    assert len(set(job.keys)) == 1


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"secret_values": None, "named": ["TOKEN", "OTHER"]},
            "The job names secrets (TOKEN, OTHER), but the control plane has sent none. Its version",
        ),
        ({"named": ["TOKEN", "OTHER"]}, "The control plane has sent no value for OTHER."),
        (
            {"named": ["../TOKEN"], "secret_values": {"../TOKEN": CANARY}},
            "The name of a secret of this job is not valid",
        ),
        ({"secret_values": {"TOKEN": f"{CANARY}\0x"}}, "The secret TOKEN has a null character: take it as a file"),
    ],
)
def test_a_job_whose_secrets_are_not_there_fails_with_their_names(
    members: dict[str, Any], message: str, shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    job = run(shared_plane, history, "echo never", **members)
    assert job.finish is not None
    assert message in job.finish["error_message"]
    assert "canary" not in job.finish["error_message"]
    assert b"never\n" not in job.log
    assert job.finish["agent_fault"] is None


@pytest.mark.parametrize("encrypted_for", ["hybrid-ci secrets\0agent1\0another job\0001", ""])
def test_secrets_for_another_attempt_cannot_be_opened_and_fail_the_job(
    encrypted_for: str, shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    job = shared_plane.add_job(history.url, run="echo never", secret_values=VALUES)
    job.encrypted_for = encrypted_for or "x"
    error = shared_plane.finished(job)["error_message"]
    assert error.startswith("The agent cannot open the secrets of this job (TOKEN, KUBECONFIG): ")
    assert "canary" not in error + job.text + shared_agent.output


def test_a_job_that_may_not_have_its_secrets_fails_with_the_reason(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"steps: [{run: 'true'}]", "secrets-that-are-missing")
    refusal = {"code": "secrets_missing", "detail": "The secret TOKEN is not for this branch."}
    job = shared_plane.add_job(history.url, branch, from_repository=True, definition_answer=(422, refusal))
    assert shared_plane.finished(job)["error_message"] == "The secret TOKEN is not for this branch."


def test_the_log_the_results_and_the_reports_show_no_secret(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    script = """
set -x
echo "plain: $TOKEN"
printf %s "$TOKEN" | base64
printf 'x%s' "$TOKEN" | base64
printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \\n'; echo
env | grep TOKEN
cat "$KUBECONFIG" >&2
set +x
printf '%.3s' "$TOKEN"; sleep 0.6; printf %s "${TOKEN#can}"; echo " end"
printf '<testsuite tests="1" name="%s"><testcase name="a"/></testsuite>' "$TOKEN" > report.xml
printf %s "${TOKEN%??}"
"""
    job = run(shared_plane, history, script, wanted_reports={"junit": ["report.xml"], "coverage": None})
    assert job.finish is not None
    assert job.finish["error_message"] is None
    assert "plain: ***\n" in job.text
    assert "can*** end\n" in job.text
    assert "apiVersion: v1\n" not in job.text
    for trace in TRACES:
        assert trace not in job.log
    ((_, _, report),) = job.reported.values()
    assert b'name="***"' in report
    assert "canary" not in repr(job.finish) + shared_agent.output


def test_outputs_errors_and_uploads_have_no_secret(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    job = run(shared_plane, history, 'echo "A=x$TOKEN" > "$HYBRID_CI_OUTPUT"', outputs=["A"])
    assert job.finish is not None
    assert "line 1 has the value of a secret, and outputs are stored" in job.finish["error_message"]
    upload = f'echo "$TOKEN" | "{sys.executable}" "$HYBRID_CI_AGENT" upload - || echo code $?'
    job = run(shared_plane, history, upload, name="first", run_id="run1", group=None)
    assert "the file has the value of a secret" in job.text
    assert "code 1\n" in job.text
    assert store.extensions == []
    for trace in TRACES:
        assert trace not in job.log + repr(job.finish).encode()


def test_values_that_steps_make_are_masked(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History
) -> None:
    made = "session-token-4711"
    steps = [
        {
            "name": "make",
            "run": f'echo "::add-mask::$(echo {made} | tr a-z A-Z)"; echo "$(echo {made} | tr a-z A-Z) here"\n'
            f"echo 'line::add-mask::not at the beginning'; echo '::add-mask::abc'\n"
            f"echo ::add-mask::a%0Asecond-line-9 ; echo second-line-9\n"
            f"printf '::add-mask::without-a-line-break'",
        },
        {"name": "mask", "run": f"echo {made} | {MASK}; echo x{made}x; echo abc | {MASK} || echo code $?"},
        {"name": "use", "run": f"echo without-a-line-break {made}; {made} || exit 3"},
    ]
    job = run(shared_plane, history, steps, secret_values=None, files=[])
    assert job.finish is not None
    assert job.finish["error_message"] == "Step 'use' ended with exit code 3."
    text = job.text
    assert "*** here\n" in text
    assert "line::add-mask::not at the beginning\n" in text
    assert "── a value of add-mask is not masked: it must have at least 4 characters" in text
    assert "agent mask: the value is not masked: it must have at least 4 characters" in text
    assert "code 1\n" in text
    assert "x***x\n" in text
    assert "*** ***\n" in text
    assert "::add-mask::\n" not in text
    for value in (made.upper(), "second-line-9"):
        assert value not in text
    # The commands of later steps are shown, too.
    assert f"echo without-a-line-break {made}" not in job.log.decode()


# --- traces ---------------------------------------------------------------------------------------------------------


def processes_with_traces(session: int) -> list[str]:
    """Processes outside of the session whose arguments or environment have a canary."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            seen = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if os.getsid(int(folder.name)) != session and any(trace in seen for trace in TRACES):
                found.append(f"{folder.name}: {seen[:200]!r}")
        except (OSError, ProcessLookupError):
            continue
    return found


def test_canaries_are_nowhere_but_in_the_step_itself(
    plane: FakeControlPlane, agent: AgentProcess, history: History, tmp_path: Path
) -> None:
    """The disk, the arguments and environments of all processes, the agent's log, the spool, and core dumps."""
    agent.start()
    go = tmp_path / "go"
    script = (
        'echo "$TOKEN"; cat "$KUBECONFIG"; ulimit -c unlimited 2>/dev/null; sh -c "kill -SEGV \\$\\$"; '
        f"echo session $$; "
        f"while [ ! -e {go} ]; do sleep 0.05; done; ls"
    )
    job = plane.add_job(history.url, run=f"set +e\n{script}", secret_values=VALUES, files=["KUBECONFIG"])
    session = int(plane.wait_for(lambda: re.search(r"session (\d+)\n", job.text))[1])
    assert files_with(TRACES, agent.state) == []
    assert files_with(TRACES, tmp_path) == []
    assert processes_with_traces(session) == []
    if Path("/dev/shm").is_dir():
        (private,) = private_dirs(agent)
        assert [path.name for path in files_with(TRACES, private)] == ["KUBECONFIG"]
        assert private.stat().st_mode & 0o777 == 0o700
    plane.fail("/log/", 503, times=3)
    go.touch()
    plane.finished(job)
    assert "core" not in job.text.splitlines()[-3:]
    assert files_with(TRACES, agent.state) == []
    assert not any(trace in repr(job.finish).encode() + job.log + agent.output.encode() for trace in TRACES)
    assert all(not list(folder.iterdir()) for folder in private_dirs(agent))
    agent.stop()
    assert private_dirs(agent) == []


def test_files_of_a_killed_agent_are_removed_at_its_next_start(
    plane: FakeControlPlane, agent: AgentProcess, history: History
) -> None:
    agent.start()
    job = plane.add_job(history.url, run="echo begun; sleep 60", secret_values=VALUES, files=["KUBECONFIG"])
    plane.wait_for_output(job, "begun")
    agent.kill()
    eventually(lambda: not agent.leftovers())
    assert [path.name for folder in private_dirs(agent) for path in files_with(TRACES, folder)] == ["KUBECONFIG"]
    job.stale = True
    agent.start()
    eventually(lambda: all(not list(folder.iterdir()) for folder in private_dirs(agent)))
    plane.wait_for(lambda: len(plane.heartbeats) > 2)


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.private_folder._SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr(
        "agent.private_folder._IN_MEMORY", (b"tmpfs", b"ramfs", *(b"ext4", b"overlay", b"xfs", b"btrfs"))
    )
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    made = private_folder("own", others_enter=False)
    assert made == tmp_path / "own"
    assert made.stat().st_mode & 0o777 == 0o700
    shared = private_folder("own", others_enter=True)
    assert shared is not None
    assert shared.stat().st_mode & 0o777 == 0o711
    (tmp_path / "link").symlink_to(tmp_path / "own")
    assert private_folder("link", others_enter=False) is None
    (tmp_path / "file").touch()
    assert private_folder("file", others_enter=False) is None
    if os.geteuid() == 0:
        (tmp_path / "strange").mkdir()
        os.chown(tmp_path / "strange", 65534, 65534)
        assert private_folder("strange", others_enter=False) is None


def test_a_machine_without_a_tmpfs_has_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.private_folder._SHARED_MEMORY", str(tmp_path / "missing"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert private_folder("own", others_enter=False) is None


_GUARD_CHECK = """
import sys, threading
from pathlib import Path
from agent.guard_program import write_guard_program
from agent.process import Launcher
write_guard_program(Path(sys.argv[1]))
guard = Launcher(program=Path(sys.argv[1]), marker="check", grace=1.0).guard()
def look():
    try:
        return len(open(f"/proc/{guard._process.pid}/environ", "rb").read()) > 0
    except PermissionError:
        return "refused"
def run(secret):
    over = threading.Event()
    guard.start(["/bin/true"], cwd=Path("/"), env={}, output=lambda data: None, on_end=over.set, secret=secret)
    over.wait(10)
run(False)
print(look())
run(True)
print(look())
guard.close()
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="needs another user and its Python"
)
def test_no_process_of_the_same_user_can_read_secrets_from_the_guard(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        (place / "agent.pyz").write_bytes(agent_bundle())
        place.chmod(0o755)
        (place / "own").mkdir()
        os.chown(place / "own", 65534, 65534)
        done = subprocess.run(
            ["/usr/bin/python3", "-c", _GUARD_CHECK, str(place / "own" / "program")],
            cwd="/",
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(place / "agent.pyz")},
        )
    finally:
        shutil.rmtree(place)
    assert done.stdout.split() == ["True", "refused"], done.stderr
