"""Deleting the folders of hostile jobs."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.removal import remove_folder

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "job"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that links in the job's folder point to."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (outside / "file").write_text("kept")
    return outside


def unchanged(outside: Path) -> bool:
    return (outside / "file").read_text() == "kept" and outside.stat().st_mode & 0o777 == 0o500


def as_ordinary_user(action: Callable[[], bool]) -> bool:
    """Call the function in a process whose rights the kernel checks. Returns whether it returned True."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if IS_ROOT:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            code = 0 if action() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_cleanup_never_follows_or_changes_what_a_link_points_to(folder: Path, outside: Path) -> None:
    (folder / "closed").mkdir()
    for parent in (folder, folder / "closed"):
        (parent / "to-folder").symlink_to(outside)
        (parent / "to-file").symlink_to(outside / "file")
        (parent / "to-nothing").symlink_to("nowhere")
        (parent / "to-itself").symlink_to("to-itself")
    (folder / "closed").chmod(0)
    assert remove_folder(folder)
    assert not folder.exists()
    assert unchanged(outside)


def test_a_folder_that_is_a_link_is_deleted_and_not_followed(folder: Path, outside: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(outside)
    assert remove_folder(link)
    assert not link.is_symlink()
    assert unchanged(outside)


def test_cleanup_never_leaves_the_folder_while_a_process_swaps_folders_for_links(folder: Path, outside: Path) -> None:
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("a", "b", "c"):
                try:
                    (folder / name).mkdir()
                    (folder / name / "file").touch()
                    (folder / name).rename(folder / f"{name}.old")
                    (folder / name).symlink_to(outside)
                    (folder / name).unlink()
                except OSError:
                    pass

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            remove_folder(folder)
            assert unchanged(outside)
            folder.mkdir(exist_ok=True)
    finally:
        stop.set()
        attacker.join()
    assert remove_folder(folder)
    assert unchanged(outside)


def test_a_tree_deeper_than_any_path_is_deleted_with_few_descriptors(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
    try:
        assert remove_folder(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not folder.exists()


def test_a_file_costs_one_call_of_the_system_and_a_folder_a_few(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (folder / str(number)).mkdir()
        for file in range(100):
            os.close(os.open(folder / str(number) / str(file), os.O_CREAT | os.O_WRONLY))
    calls: Counter[str] = Counter()

    def counted(name: str, call: Any) -> Any:
        def counting(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return call(*arguments, **options)

        return counting

    for name in ("chmod", "close", "fchmod", "fstat", "open", "rename", "rmdir", "scandir", "stat", "unlink"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    assert remove_folder(folder)
    monkeypatch.undo()
    assert calls.pop("unlink") == 1000
    assert sum(calls.values()) <= 8 * 11


def test_unreadable_folders_odd_names_and_fifos_are_deleted() -> None:
    # pytest's folders are closed to other users.
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o777)
    folder = place / "job"

    def fill_and_remove() -> bool:
        folder.mkdir()
        for mode in (0, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600, 0o700):
            levels = [folder / oct(mode), folder / oct(mode) / "deep", folder / oct(mode) / "deep" / "deeper"]
            levels[-1].mkdir(parents=True)
            for level in reversed(levels):
                (level / "file").touch(mode=0)
                level.chmod(mode)
        (folder / os.fsdecode(b"\xff\n")).mkdir()
        os.mkfifo(folder / "fifo")
        folder.chmod(0)
        return remove_folder(folder)

    try:
        assert as_ordinary_user(fill_and_remove)
        assert not folder.exists()
    finally:
        remove_folder(place)


@pytest.fixture
def mounted(folder: Path, outside: Path) -> Iterator[list[Path]]:
    """Mount points in the job's folder: of the same file system, and a file."""
    if not IS_ROOT:
        pytest.skip("only root can mount")
    (folder / "deep").mkdir()
    (folder / "deep" / "mount").mkdir()
    (folder / "file").touch()
    places = [folder / "deep" / "mount", folder / "file"]
    for source, place in zip((outside, outside / "file"), places, strict=True):
        subprocess.run(["mount", "--bind", source, place], check=True)
    yield places
    subprocess.run(f"grep -o '{folder}[^ ]*' /proc/self/mounts | xargs --no-run-if-empty umount", shell=True)


def test_nothing_on_a_mounted_file_system_is_deleted_or_changed(
    folder: Path, outside: Path, mounted: list[Path]
) -> None:
    (folder / "other").touch()
    assert not remove_folder(folder)
    assert unchanged(outside)
    assert not (folder / "other").exists()


def test_an_immutable_file_stays_and_everything_else_is_deleted(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "immutable").touch()
    (folder / "b").mkdir()
    (folder / "b" / "file").touch()
    if subprocess.run(["chattr", "+i", folder / "a" / "immutable"], capture_output=True).returncode != 0:
        pytest.skip("this file system or user cannot make a file immutable")
    try:
        assert not remove_folder(folder)
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        assert [path.name for path in files] == ["immutable"]
    finally:
        subprocess.run(["chattr", "-R", "-i", folder], check=True)
    assert remove_folder(folder)


def test_a_folder_that_does_not_exist_is_gone(tmp_path: Path) -> None:
    assert remove_folder(tmp_path / "nothing")
    assert remove_folder(tmp_path / "nothing" / "below")
