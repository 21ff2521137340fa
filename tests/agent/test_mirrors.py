"""The mirrors of an agent: what they save, what damages them, and what they never keep."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import clock, mirror
from agent.checkout import GIT_ENVIRONMENT, Checkout, CheckoutFailed, Tools, checkout
from agent.mirror import Git, Mirrors
from tests.agent.conftest import History
from tests.agent.git_server import GitServer


@pytest.fixture
def origin(tmp_path: Path) -> History:
    return History(tmp_path / "origin")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    server = GitServer(tmp_path / "origin")
    yield server
    server.close()


class Machine:
    """Checks out one repository again and again, each time into a new workspace."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.mirrors = Mirrors(folder / "mirrors")
        self._folder = folder
        self._count = 0
        self._lock = threading.Lock()
        (folder / "home").mkdir()

    def check_out(
        self, ref: str = "main", url: str | None = None, commands: list[list[str]] | None = None
    ) -> tuple[Checkout, Path]:
        with self._lock:
            self._count += 1
            workspace = self._folder / f"workspace-{self._count}"
        workspace.mkdir()
        run = self.git(workspace)

        def recorded(arguments: list[str]) -> tuple[int, bytes]:
            if commands is not None:
                commands.append(arguments)
            return run(arguments)

        done = checkout(url=url or self.url, ref=ref, workspace=workspace, tools=Tools(recorded, self.mirrors))
        return done, workspace

    def restart(self) -> None:
        """As after a new start of the agent."""
        self.mirrors = Mirrors(self._folder / "mirrors")

    def git(self, workspace: Path) -> Git:
        def run(arguments: list[str]) -> tuple[int, bytes]:
            result = subprocess.run(
                ["git", *arguments],
                cwd=workspace,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder / "home"), **GIT_ENVIRONMENT},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            return result.returncode, result.stdout

        return run

    @property
    def path(self) -> Path:
        (path,) = (self._folder / "mirrors").glob("*.git")
        return path

    def packs(self) -> list[Path]:
        return list((self.path / "objects" / "pack").glob("*.pack"))


@pytest.fixture
def machine(tmp_path: Path, server: GitServer) -> Machine:
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(folder, f"{server.url}/repository.git")


def test_a_commit_is_fetched_from_its_server_once(machine: Machine, server: GitServer, origin: History) -> None:
    for _ in range(3):
        done, workspace = machine.check_out()
        assert (done.commit, done.kind) == (origin.commits[2], "branch")
        assert (workspace / "number").read_text() == "3\n"
    assert machine.check_out(origin.commits[2])[0] == Checkout(origin.commits[2], "commit")
    assert server.fetches == 1


def test_a_new_commit_costs_only_what_is_new(machine: Machine, server: GitServer, origin: History) -> None:
    origin.commit_entry("large", os.urandom(300_000), "large")
    machine.check_out("large")
    first = server.sent
    assert first > 300_000
    origin.commit_entry("small", b"small", "large")
    _, workspace = machine.check_out("large")
    assert (workspace / "small").read_text() == "small"
    assert server.fetches == 2


@pytest.mark.parametrize(
    ("ref", "number", "kind"),
    [
        ("main", 3, "branch"),
        ("v1", 2, "tag"),
        ("feature/slash", 2, "branch"),
        ("both", 1, "branch"),
        ("refs/tags/both", 3, "tag"),
        ("HEAD", 3, "ref"),
    ],
)
def test_each_kind_of_ref_comes_from_the_mirror_as_it_comes_from_the_server(
    ref: str, number: int, kind: str, machine: Machine, origin: History, server: GitServer
) -> None:
    for _ in range(2):
        done, workspace = machine.check_out(ref)
        assert done == Checkout(origin.commits[number - 1], kind)
        assert machine.git(workspace)(["rev-list", "--count", "HEAD"]) == (0, b"1\n")
        assert machine.git(workspace)(["config", "remote.origin.url"]) == (0, f"{machine.url}\n".encode())
    assert server.fetches == 1


def test_a_branch_that_moves_is_built_at_its_new_commit(machine: Machine, origin: History) -> None:
    first = machine.check_out()[0].commit
    origin.commit_entry("more", b"more", "more")
    subprocess.run(["git", "update-ref", "refs/heads/main", "refs/heads/more"], cwd=origin.path, check=True)
    second, workspace = machine.check_out()
    assert second.commit != first
    assert (workspace / "more").read_text() == "more"


def test_a_commit_that_is_gone_on_the_server_fails_as_without_a_mirror(machine: Machine, origin: History) -> None:
    machine.check_out()
    with pytest.raises(CheckoutFailed):
        machine.check_out("0" * 39 + "1")
    with pytest.raises(CheckoutFailed, match="The repository has no branch, tag or commit 'gone'"):
        machine.check_out("gone")


def test_jobs_share_a_mirror_at_the_same_time(machine: Machine, server: GitServer, origin: History) -> None:
    failures: list[Exception] = []
    refs = [*origin.commits, "main", "v1", "feature/slash", "both", "HEAD"] * 2

    def check(ref: str) -> None:
        try:
            machine.check_out(ref)
        except Exception as error:  # noqa: BLE001 — the test shows it
            failures.append(error)

    threads = [threading.Thread(target=check, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # Three commits and the object of the annotated tag.
    assert server.fetches <= 4


def test_a_commit_that_another_job_has_just_fetched_comes_from_the_mirror(
    machine: Machine, server: GitServer, origin: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mirror, "MAX_PACKS", 0)
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(machine.check_out()[0].commit))

    def git(arguments: list[str]) -> tuple[int, bytes]:
        if "repack" in arguments:
            # The commit has its name, and the job that fetched it is still at work.
            other.start()
            other.join(10)
        return machine.git(tmp_path)(arguments)

    with machine.mirrors.use(machine.url) as shared:
        assert shared.fetch(git, "refs/heads/main", origin.commits[2], waiting=lambda: None)
    other.join()
    assert found == [origin.commits[2]]
    assert server.fetches == 1


def _damage(path: Path, how: str) -> None:
    (pack,) = (path / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    if how == "changed":
        data[len(data) // 2] ^= 0xFF
        pack.write_bytes(data)
    elif how == "cut":
        pack.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        pack.write_bytes(b"")
    elif how == "missing":
        pack.unlink()
    elif how == "no index":
        pack.with_suffix(".idx").unlink()
    elif how == "changed without a trace in its times":
        before = pack.stat()
        data[len(data) // 2] ^= 0xFF
        pack.write_bytes(data)
        os.utime(pack, ns=(before.st_atime_ns, before.st_mtime_ns))


def damages() -> Iterator[Any]:
    """Each kind, before an agent's next job and after its restart; by day, every second kind after a restart."""
    kinds = ["changed", "changed without a trace in its times", "cut", "empty", "missing", "no index"]
    for number, how in enumerate(kinds):
        for restarted in (False, True):
            marks = () if restarted == bool(number % 2) else pytest.mark.nightly
            yield pytest.param(how, restarted, marks=marks)


@pytest.mark.parametrize(("how", "restarted"), list(damages()))
def test_a_damaged_mirror_harms_no_job_and_is_made_anew(
    how: str, restarted: bool, machine: Machine, server: GitServer, origin: History
) -> None:
    machine.check_out()
    _damage(machine.path, how)
    if restarted:
        machine.restart()
    for _ in range(3):
        done, workspace = machine.check_out()
        assert done.commit == origin.commits[2]
        assert (workspace / "number").read_text() == "3\n"
        assert machine.git(workspace)(["fsck", "--no-dangling"])[0] == 0
    # The mirror, the job that met the damage, the new mirror.
    assert server.fetches == 3
    assert machine.git(machine.path)(["fsck"])[0] == 0


def test_a_mirror_outlives_its_agent_and_is_hashed_once_by_the_next(
    machine: Machine, server: GitServer, origin: History
) -> None:
    machine.check_out()
    machine.restart()
    commands: list[list[str]] = []
    for _ in range(2):
        machine.check_out(commands=commands)
    assert server.fetches == 1
    assert sum("verify-pack" in command for command in commands) == 1


def test_a_trivial_job_needs_three_git_commands(machine: Machine, origin: History) -> None:
    machine.check_out()
    commands: list[list[str]] = []
    machine.check_out(commands=commands)
    assert len(commands) == 3, commands
    assert [word for command in commands for word in command if word in ("init", "ls-remote", "checkout")] == [
        "init",
        "ls-remote",
        "checkout",
    ]


def test_a_mirror_whose_files_cannot_be_written_harms_no_job(machine: Machine, origin: History) -> None:
    machine.check_out()
    (machine.path / "config").unlink()
    (machine.path / "config").mkdir()
    assert machine.check_out("v1")[0].commit == origin.commits[1]
    assert machine.check_out("v1")[0].commit == origin.commits[1]
    assert (machine.path / "config").is_file()


def test_what_a_killed_git_left_in_a_mirror_does_not_disturb_it(
    machine: Machine, server: GitServer, origin: History
) -> None:
    machine.check_out("v1")
    path = machine.path
    leftovers = [
        path / "shallow.lock",
        path / "config.lock",
        path / "refs" / "mirror" / "incoming.lock",
        path / "objects" / "pack" / "tmp_pack_abcdef",
        path / "objects" / "pack" / f"pack-{'0' * 40}.keep",
    ]
    for leftover in leftovers:
        leftover.write_text("unfinished")
    assert machine.check_out("main")[0].commit == origin.commits[2]
    assert server.fetches == 2
    assert not [leftover for leftover in leftovers if leftover.exists()]


def test_kill_9_at_any_moment_of_a_fetch_leaves_a_usable_mirror(
    machine: Machine, server: GitServer, origin: History
) -> None:
    data = os.urandom(200_000)
    for number in range(8):
        branch = f"branch-{number}"
        commit = origin.commit(branch, {f"file-{number}": data + bytes([number])}, on=origin.commits[2])

        def killed(arguments: list[str], after: float = number * 0.008) -> tuple[int, bytes]:
            process = subprocess.Popen(
                ["git", *arguments],
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **GIT_ENVIRONMENT},
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                return process.wait(after), b""
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return process.wait(), b""

        with machine.mirrors.use(machine.url) as shared:
            shared.fetch(killed, f"refs/heads/{branch}", commit, waiting=lambda: None)
        done, workspace = machine.check_out(branch)
        assert done.commit == commit
        assert (workspace / f"file-{number}").read_bytes() == data + bytes([number])
    assert machine.git(machine.path)(["fsck"])[0] == 0


def test_a_step_that_writes_to_the_mirror_changes_no_other_pipeline(
    machine: Machine, origin: History, server: GitServer, tmp_path: Path
) -> None:
    machine.check_out()
    hostile = History(tmp_path / "hostile")
    poison = hostile.commit("poison", {"number": b"poison\n"}, on=hostile.commits[2])
    git = machine.git(machine.path)
    assert git(["fetch", "--quiet", str(hostile.path), "poison"])[0] == 0
    # The name of the good commit means the other commit, and an attribute would run a command.
    (machine.path / "refs" / "mirror" / origin.commits[2]).write_text(poison + "\n")
    (machine.path / "config").write_text(
        (machine.path / "config").read_text() + f'[uploadpack]\n\tpackObjectsHook = "touch {tmp_path}/ran; exec"\n'
    )
    assert git(["replace", origin.commits[2], poison])[0] == 0
    done, workspace = machine.check_out()
    assert done.commit == origin.commits[2]
    assert (workspace / "number").read_text() == "3\n"
    assert not (tmp_path / "ran").exists()


def test_a_blob_that_was_exchanged_in_the_mirror_is_noticed(
    machine: Machine, origin: History, server: GitServer
) -> None:
    machine.check_out()
    blob = subprocess.check_output(["git", "rev-parse", "main:number"], cwd=origin.path, text=True).strip()
    (pack,) = machine.packs()
    data = pack.read_bytes()
    pack.unlink()
    pack.with_suffix(".idx").unlink()
    subprocess.run(["git", "unpack-objects", "-q"], cwd=machine.path, input=data, check=True)
    loose = machine.path / "objects" / blob[:2] / blob[2:]
    other = subprocess.check_output(["git", "hash-object", "-w", "--stdin"], cwd=machine.path, input=b"9\n")
    name = other.decode().strip()
    loose.chmod(0o600)
    loose.write_bytes((machine.path / "objects" / name[:2] / name[2:]).read_bytes())
    _, workspace = machine.check_out()
    assert (workspace / "number").read_text() == "3\n"


def test_the_mirror_has_no_credentials_and_a_url_with_credentials_gets_no_mirror(
    machine: Machine, origin: History, tmp_path: Path
) -> None:
    url = machine.url.replace("http://", "http://robot:secret@")
    _, workspace = machine.check_out(url=url)
    assert (workspace / "number").read_text() == "3\n"
    assert not list((tmp_path / "machine" / "mirrors").iterdir())
    machine.check_out()
    for path in (tmp_path / "machine" / "mirrors").rglob("*"):
        assert "secret" not in path.name
        assert not path.is_file() or b"secret" not in path.read_bytes()


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_a_repository_on_the_machine_itself_has_a_mirror_too(form: str, machine: Machine, origin: History) -> None:
    commands: list[list[str]] = []
    for _ in range(2):
        done, workspace = machine.check_out(url=form.format(origin.path), commands=commands)
        assert done.commit == origin.commits[2]
        assert machine.git(workspace)(["rev-list", "--count", "HEAD"]) == (0, b"1\n")
    assert sum("fetch" in command for command in commands) == 1


def test_many_fetches_become_one_pack_with_the_commits_that_were_used_last(
    machine: Machine, origin: History, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MAX_PACKS", 3)
    monkeypatch.setattr(mirror, "_KEPT_COMMITS", 2)
    for number in range(9):
        origin.commit_entry("data", os.urandom(1000), f"branch-{number}")
        machine.check_out(f"branch-{number}")
    assert len(machine.packs()) <= 4
    assert len(list((machine.path / "refs" / "mirror").iterdir())) <= 6
    assert machine.git(machine.path)(["fsck"])[0] == 0
    fetches = server.fetches
    machine.check_out("branch-8")
    assert server.fetches == fetches
    machine.check_out("branch-0")
    assert server.fetches == fetches + 1


def test_mirrors_that_take_too_much_disk_are_removed_the_one_not_used_for_longest_first(
    machine: Machine, origin: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [machine.url.replace("repository", f"repository-{number}") for number in range(3)]
    for number in range(3):
        shutil.copytree(origin.path, origin.path.with_name(f"repository-{number}.git"))
    for age, url in enumerate(reversed(urls)):
        machine.check_out(url=url)
        with machine.mirrors.use(url) as shared:
            os.utime(shared.path, (clock.epoch() - 1000 + age, clock.epoch() - 1000 + age))
            size = shared.bytes_on_disk()
    monkeypatch.setattr(mirror, "MAX_BYTES", size * 2 + size // 2)
    with machine.mirrors.use(urls[2]):
        machine.mirrors.shrink()
    left = sorted(path.name for path in (tmp_path / "machine" / "mirrors").iterdir())
    with machine.mirrors.use(urls[2]) as used, machine.mirrors.use(urls[0]) as newest:
        assert left == sorted([used.path.name, newest.path.name]), "the one in use stays although it is the oldest"


def test_a_mirror_that_was_not_used_for_30_days_is_removed(machine: Machine, origin: History, tmp_path: Path) -> None:
    machine.check_out()
    long_ago = clock.epoch() - 30 * 24 * 3600 - 60
    os.utime(machine.path, (long_ago, long_ago))
    machine.mirrors.shrink()
    assert not list((tmp_path / "machine" / "mirrors").iterdir())
    # What a kill -9 in the middle of a removal leaves is removed by the next start.
    (tmp_path / "machine" / "mirrors" / ".removed-0123" / "objects").mkdir(parents=True)
    Mirrors(tmp_path / "machine" / "mirrors")
    assert not list((tmp_path / "machine" / "mirrors").iterdir())


def test_mirrors_make_room_on_a_disk_that_fills_up(
    machine: Machine, origin: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.check_out()
    free = 101 * 2**30

    def disk_usage(_: Path) -> SimpleNamespace:
        return SimpleNamespace(total=1000 * 2**30, free=free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    machine.mirrors.shrink()
    assert machine.path.exists()
    free = 99 * 2**30
    machine.mirrors.shrink()
    assert not list((tmp_path / "machine" / "mirrors").iterdir())


def test_a_job_that_waits_for_another_job_s_fetch_can_be_cancelled(machine: Machine) -> None:
    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    with machine.mirrors.use(machine.url) as shared, shared._locked(lambda: None), pytest.raises(Cancelled):
        shared.fetch(lambda _: (0, b""), "refs/heads/main", "0" * 40, waiting=cancel)
