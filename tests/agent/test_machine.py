"""Failures of the machine: full disks, missing git, files of other users. They fail no job."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent import machine
from agent.health import Health, disk_free
from agent.machine import git_fault, is_machine_failure
from agent.trash import TRASH, Trash, discard, empty_work_dir
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane

MIB = 1024 * 1024
NOT_ROOT = 65534


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill the disk but for `leave` bytes. Returns the file that does it."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk_free(disk) - leave)
    return filler


def unchecked(*patches: str) -> list[str]:
    """The agent without its check of the machine, so that a job meets the failure first."""
    statements = [
        "import errno, subprocess, sys; from pathlib import Path; from agent import health, job_run, machine, spool",
        "from agent.cli import agent_main; health.Health._look = lambda self: None",
        # Takes the place of a function that fails.
        "def failing(error):\n    def fail(*_, **__):\n        raise error\n    return fail",
        *patches,
        "sys.exit(agent_main(sys.argv[1:]))",
    ]
    return [sys.executable, "-c", "\n".join(statements)]


# The disk


def test_an_agent_with_a_full_work_directory_takes_no_job_says_why_and_goes_on_when_there_is_room(
    agent: AgentProcess, plane: FakeControlPlane, history: History, disk: Path
) -> None:
    filler = fill(disk, leave=90 * MIB)
    jobs = [plane.add_job(history.url) for _ in range(4)]
    agent.start(f"--work-dir={disk}", "--slots=4")
    plane.wait_for(lambda: len(plane.heartbeats) > 1)
    for heartbeat in plane.heartbeats:
        assert heartbeat["free_slots"] == 0
        assert re.fullmatch(r"the disk of the work directory .* is full: 90 MiB are free, 100 .*", heartbeat["fault"])
    assert not any(job.assigned for job in jobs)
    assert agent.output.count("this machine is unfit for jobs") == 1
    filler.unlink()
    for job in jobs:
        assert plane.finished(job, 30)["agent_fault"] is None
    plane.wait_for(lambda: plane.heartbeats[-1]["fault"] is None)
    assert "this machine is fit for jobs again" in agent.output


def test_a_full_disk_ends_one_attempt_with_agent_fault_and_the_agent_takes_no_other_job(
    agent: AgentProcess, plane: FakeControlPlane, history: History, disk: Path
) -> None:
    jobs = [plane.add_job(history.url) for _ in range(12)]
    fill(disk)
    agent.start(f"--work-dir={disk}", command=unchecked())
    plane.wait_for(lambda: any(job.finish for job in jobs))
    plane.wait_for(lambda: plane.heartbeats[-1]["fault"], timeout=5)
    (job,) = [job for job in jobs if job.assigned]
    assert job.finish is not None
    assert "is full: 0 MiB are free" in job.finish["agent_fault"]
    assert job.finish["error_message"].startswith("The machine failed: the disk of the work directory ")
    assert job.finish["wants_next"] is False
    assert job.finish["exit_code"] is None
    assert [step["started_at"] for step in job.finish["steps"]] == [None]
    count = len(plane.heartbeats)
    plane.wait_for(lambda: len(plane.heartbeats) > count + 2)
    assert sum(job.assigned for job in jobs) == 1


def test_a_disk_that_fills_up_during_the_checkout_is_the_machines_failure(
    agent: AgentProcess,
    plane: FakeControlPlane,
    history: History,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    git = tmp_path / "programs" / "git"
    git.parent.mkdir()
    real = shutil.which("git")
    git.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *fetch*|*checkout*) head -c 200000000 /dev/zero >{disk}/filler 2>/dev/null;; esac\n'
        f'exec {real} "$@"\n'
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    job = plane.add_job(history.url)
    agent.start(f"--work-dir={disk}")
    finish = plane.finished(job)
    assert finish["agent_fault"].startswith("The repository could not be fetched: ")
    assert [step["started_at"] for step in finish["steps"]] == [None]


def test_a_full_spool_disk_loses_no_report_of_a_step_that_succeeded(
    agent: AgentProcess, plane: FakeControlPlane, history: History, disk: Path, tmp_path: Path
) -> None:
    job = plane.add_job(history.url, run=f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    agent.start(f"--state-dir={disk}", f"--work-dir={tmp_path}/work")
    plane.wait_for_output(job, "begun")
    fill(disk)
    (tmp_path / "go").touch()
    finish = plane.finished(job)
    assert (finish["exit_code"], finish["error_message"], finish["agent_fault"]) == (0, None, None)
    plane.wait_for(lambda: "state directory" in (plane.heartbeats[-1]["fault"] or ""))


def test_a_step_whose_output_the_disk_does_not_take_ends_with_agent_fault(
    agent: AgentProcess, plane: FakeControlPlane, history: History, disk: Path, tmp_path: Path
) -> None:
    run = f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; seq 1 1000000; sleep 30"
    job = plane.add_job(history.url, run=run)
    agent.start(f"--state-dir={disk}", f"--work-dir={tmp_path}/work")
    plane.wait_for_output(job, "begun")
    fill(disk)
    with plane.unreachable():
        (tmp_path / "go").touch()
        eventually(lambda: "ended: The machine failed" in agent.output)
    finish = plane.finished(job)
    assert "the agent could not write the output to disk: [Errno 28] No space left" in finish["agent_fault"]
    assert finish["steps"][0]["state"] == "failed"


def test_a_spool_that_cannot_be_used_ends_the_attempt_with_agent_fault(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url)
    agent.start(
        command=unchecked("from agent.spool import Spool; Spool.open = lambda *_: 1 / 0 if 0 else open('/x/y')")
    )
    assert "the agent cannot use its spool" in plane.finished(job)["agent_fault"]
    assert plane.heartbeats[-1]["running"] == [] or True


def test_an_agent_starts_and_says_why_when_it_cannot_make_its_work_directory(
    agent: AgentProcess, plane: FakeControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    agent.start(f"--work-dir={tmp_path}/file/work")
    plane.wait_for(lambda: plane.heartbeats)
    assert "cannot be written: Not a directory" in plane.heartbeats[0]["fault"]


def test_an_agent_that_cannot_write_its_state_directory_says_what_to_check(agent: AgentProcess, disk: Path) -> None:
    fill(disk)
    assert agent.start(f"--state-dir={disk}/state").exit_code() == 5
    assert "The agent cannot use its files: [Errno 28] No space left on device" in agent.output
    assert "Traceback" not in agent.output


# git and processes


def test_an_agent_whose_git_is_gone_takes_no_job_and_says_why(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "sh", "sleep"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    (programs / "git").rename(programs / "no-git")
    plane.wait_for(lambda: plane.heartbeats[-1]["fault"] == "git is not on the PATH; install it")
    job = plane.add_job(history.url)
    count = len(plane.heartbeats)
    plane.wait_for(lambda: len(plane.heartbeats) > count + 1)
    assert not job.assigned
    (programs / "no-git").rename(programs / "git")
    assert plane.finished(job)["exit_code"] == 0


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("machine.shutil.which = lambda *_, **__: None", "git is not on the PATH"),
        ("subprocess.Popen = failing(BlockingIOError(11, 'no fork'))", "no fork"),
        ("Path.mkdir = failing(PermissionError(13, 'not yours'))", "not yours"),
    ],
)
def test_what_every_job_needs_and_the_machine_lacks_ends_the_attempt_with_agent_fault(
    patch: str, reason: str, agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url)
    # The patch takes effect with the job.
    late = f"run = job_run.JobRun._run\njob_run.JobRun._run = lambda self: (exec({patch!r}, globals()), run(self))"
    agent.start(command=unchecked(late))
    finish = plane.finished(job)
    assert reason in finish["agent_fault"]
    assert finish["steps"][0]["state"] == "skipped"


def test_a_workspace_that_a_step_removed_is_the_jobs_own_failure(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    steps = [{"name": "a", "run": 'rm -rf "$PWD/.."'}, {"name": "b", "run": "true"}]
    job = plane.add_job(history.url, steps=steps)
    agent.start()
    finish = plane.finished(job)
    assert finish["agent_fault"] is None
    assert finish["error_message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_git_that_meets_a_limit_of_the_machine_is_a_fault_of_the_machine(number: int) -> None:
    text = os.strerror(number)
    assert is_machine_failure(OSError(number, text))
    line = f"fatal: write error: {text}"
    assert git_fault(f"hint: nothing\n{line}\nfatal: fetch-pack failed\n", control_plane_resolves=lambda: True) == line


@pytest.mark.parametrize(
    "printed",
    [
        "git: 'remote-https' is not a git command\nfatal: unable to find remote helper for 'https'",
        "error: cannot run ssh: No such file or directory\nfatal: unable to fork",
        "fatal: Out of memory, malloc failed (tried to allocate 8589934592 bytes)",
        "cannot start /usr/bin/git: [Errno 13] Permission denied: '/usr/bin/git'",
    ],
)
def test_a_git_that_cannot_work_on_this_machine_is_a_fault_of_the_machine(printed: str) -> None:
    assert git_fault(printed, control_plane_resolves=lambda: True)


@pytest.mark.parametrize(
    "printed",
    [
        "remote: fatal: write error: No space left on device\nfatal: the remote end hung up unexpectedly",
        "error: unable to create file No space left on device/x: File name too long",
        "fatal: repository 'https://example.org/x' not found",
        "fatal: Authentication failed for 'https://example.org/x'",
        "ssh: connect to host example.org port 22: Connection refused",
        "fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection timed out",
    ],
)
def test_what_the_repository_or_its_server_says_is_no_fault_of_the_machine(printed: str) -> None:
    assert git_fault(printed, control_plane_resolves=lambda: False) is None


@pytest.mark.parametrize(
    "printed",
    [
        "fatal: unable to access 'https://no.invalid/x/': Could not resolve host: no.invalid",
        "ssh: Could not resolve hostname no.invalid: Name or service not known\nfatal: Could not read",
        "fatal: unable to look up no.invalid (port 9418) (Temporary failure in name resolution)",
    ],
)
def test_a_host_without_an_address_is_the_machines_fault_only_if_the_control_plane_has_none_either(
    printed: str,
) -> None:
    assert git_fault(printed, control_plane_resolves=lambda: True) is None
    fault = git_fault(printed, control_plane_resolves=lambda: False)
    assert fault is not None
    assert "name resolution fails on this machine" in fault


def test_the_control_planes_host_is_looked_up_anew() -> None:
    assert machine.resolves("127.0.0.1")
    assert not machine.resolves("no-such-host.invalid")


# The check


def fit(tmp_path: Path, **options: Any) -> Health:
    return Health(work_dir=tmp_path / "work", state_dir=tmp_path, search_path=os.environ["PATH"], **options)


def test_the_check_of_the_machine_is_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts no process, asks no network, and writes one empty file to each of two folders."""
    checked = fit(tmp_path)
    assert checked.check() is None
    opened: list[object] = []
    system_open = os.open

    def open_noted(path: Path, *arguments: int) -> int:
        opened.append(path)
        return system_open(path, *arguments)

    monkeypatch.setattr(os, "open", open_noted)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("the check starts a process"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the check asks the network"))
    assert checked.check() is None
    assert opened == [tmp_path / "work" / ".probe", tmp_path / ".probe"]


def test_two_looks_at_the_same_moment_do_not_take_each_other_for_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two jobs start at once."""
    checked = fit(tmp_path)
    found: list[str | None] = []
    other = threading.Thread(target=lambda: found.append(checked.check()))
    system_open = os.open

    def open_amid_another_look(path: Path, *arguments: int) -> int:
        opened = system_open(path, *arguments)
        monkeypatch.undo()
        other.start()
        other.join(0.1)
        return opened

    monkeypatch.setattr(os, "open", open_amid_another_look)
    found.append(checked.check())
    other.join()
    assert found == [None, None]


def test_a_machine_that_fails_jobs_pauses_longer_after_each_and_begins_anew_after_a_success(tmp_path: Path) -> None:
    now = 1000.0
    checked = fit(tmp_path, monotonic=lambda: now)

    def pause() -> float:
        nonlocal now
        began = now
        checked.note_failure("the disk is broken")
        while checked.check() is not None:
            assert checked.fault == "the last job could not run: the disk is broken"
            now += 1
        return now - began

    assert [pause() for _ in range(6)] == [30, 60, 120, 240, 480, 600]
    checked.note_failure("the disk is broken")
    # Jobs in other slots fail in the same moment.
    assert pause() == 600
    checked.note_success()
    assert pause() == 30


def test_a_failure_that_the_check_sees_is_over_when_its_cause_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = fit(tmp_path)
    monkeypatch.setattr("agent.health.WORK_FREE_BYTES", 2**80)
    checked.note_failure("git could not write")
    assert checked.fault is not None
    assert "is full" in checked.fault
    monkeypatch.undo()
    assert checked.check() is None


def test_a_long_fault_is_cut_to_what_the_control_plane_takes(tmp_path: Path) -> None:
    checked = fit(tmp_path)
    checked.note_failure("x" * 10_000)
    assert len(checked.check() or "") == machine.FAULT_CHARACTERS == 500


def test_a_work_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    assert fit(tmp_path).check() is None
    (tmp_path / "work").rmdir()
    assert fit(tmp_path).check() is None
    assert (tmp_path / "work").is_dir()


def test_a_disk_without_inodes_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = os.statvfs(tmp_path)
    used_up = os.statvfs_result((*figures[:6], 0, 0, *figures[8:]))
    monkeypatch.setattr(os, "statvfs", lambda _: used_up)
    assert "is full: 0 MiB are free" in (fit(tmp_path).check() or "")


# Files of another owner


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who is not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, NOT_ROOT, NOT_ROOT)
        yield folder


def as_another(action: Callable[[], object]) -> None:
    """Do this as a user who is not root, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            os.setgroups([])
            os.setgid(NOT_ROOT)
            os.setuid(NOT_ROOT)
            action()
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def make_files_of_root(work_dir: Path) -> Path:
    """A workspace with files that root's container left there."""
    job = work_dir / "job.1"
    (job / "workspace" / "node_modules").mkdir(parents=True)
    (job / "workspace" / "node_modules" / "of-root").write_text("x")
    for path in (work_dir, job, job / "workspace"):
        os.chown(path, NOT_ROOT, NOT_ROOT)
    return job


def test_files_of_another_owner_are_set_aside_warned_of_and_cleaned_when_it_can(unprivileged: Path) -> None:
    work_dir = unprivileged / "work"
    job = make_files_of_root(work_dir)

    def discard_and_log() -> None:
        logging.basicConfig(filename=unprivileged / "log", force=True)
        assert discard(job)

    as_another(discard_and_log)
    assert not job.exists()
    (aside,) = (work_dir / TRASH).iterdir()
    assert aside.name.startswith("job.1.")
    assert f"It was moved to {aside}; delete it as root" in (unprivileged / "log").read_text()
    as_another(Trash(work_dir).clean)
    assert aside.exists()
    for path in aside.rglob("*"):
        os.chown(path, NOT_ROOT, NOT_ROOT)
    as_another(Trash(work_dir).clean)
    assert not aside.exists()


def test_files_of_another_owner_do_not_stop_the_start_of_an_agent(unprivileged: Path) -> None:
    work_dir = unprivileged / "work"
    make_files_of_root(work_dir)
    as_another(lambda: empty_work_dir(work_dir))
    assert [entry.name for entry in work_dir.iterdir()] == [TRASH]
    # The next start leaves the trash alone.
    as_another(lambda: empty_work_dir(work_dir))
    assert len(list((work_dir / TRASH).iterdir())) == 1


def test_the_trash_never_leads_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "folder").mkdir(parents=True)
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    (work_dir / TRASH).symlink_to(elsewhere)
    (work_dir / "link").symlink_to(elsewhere)
    Trash(work_dir).clean()
    empty_work_dir(work_dir)
    assert (elsewhere / "folder").is_dir()
    assert not (work_dir / "link").is_symlink()
    assert discard(work_dir / "that-is-missing")


def test_the_trash_is_looked_at_rarely(tmp_path: Path) -> None:
    now = 0.0
    (tmp_path / TRASH / "job.1").mkdir(parents=True)
    trash = Trash(tmp_path, monotonic=lambda: now)
    trash.clean_soon()
    eventually(lambda: not list((tmp_path / TRASH).iterdir()))
    (tmp_path / TRASH / "job.2").mkdir()
    trash.clean_soon()
    now = 601.0
    assert list((tmp_path / TRASH).iterdir())
    trash.clean_soon()
    eventually(lambda: not list((tmp_path / TRASH).iterdir()))
