"""Archives of a workspace: what goes in, what comes out, and what hostile ones cannot do."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import archive
from agent.archive import ArchiveInvalid, pack, unpack
from agent.workspace_files import FilesUnusable, hash_files
from tests.tar_archives import entry, made


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace as a job leaves it."""
    top = tmp_path / "workspace"
    for name in (".git/config", "dist/a.whl", "dist/deep/er/b.txt", "dist/.hidden", "src/main.c", "notes.txt"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"content of {name}")
    return top


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An empty workspace."""
    other = tmp_path / "other"
    other.mkdir()
    return other


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def moved(workspace: Path, other: Path, *patterns: str) -> set[str]:
    """What arrives in the other workspace of what the patterns match."""
    target = workspace.parent / "archive"
    pack(workspace, patterns, target)
    unpack(target, other)
    return names(other)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["dist"], {"dist/a.whl", "dist/.hidden", "dist/deep/er/b.txt"}),
        (["./dist/"], {"dist/a.whl", "dist/.hidden", "dist/deep/er/b.txt"}),
        (["dist/*.whl"], {"dist/a.whl"}),
        (["**/*.txt"], {"dist/deep/er/b.txt", "notes.txt"}),
        (["dist/**/*.txt"], {"dist/deep/er/b.txt"}),
        (["*/main.[ch]", "notes.tx?"], {"src/main.c", "notes.txt"}),
        (["**", "!dist/deep"], {"dist/a.whl", "dist/.hidden", "src/main.c", "notes.txt"}),
        ([".git", "src"], {"src/main.c"}),
    ],
)
def test_patterns_choose_files(workspace: Path, other: Path, patterns: list[str], expected: set[str]) -> None:
    assert moved(workspace, other, *patterns) == expected


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../other", "dist/../../x", "~/.ssh"])
def test_a_pattern_cannot_lead_out_of_the_workspace(workspace: Path, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(FilesUnusable, match="must be a path in the workspace"):
        pack(workspace, [pattern], tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_a_pattern_that_would_take_a_regular_expression_for_ever_is_quick(workspace: Path, tmp_path: Path) -> None:
    (workspace / ("a" * 200)).touch()
    pack(workspace, ["/".join(["**"] * 30) + "/" + "*a" * 40 + "b"] * 20, tmp_path / "archive")


def test_links_are_stored_as_links_and_modes_and_times_are_kept(workspace: Path, other: Path) -> None:
    script = workspace / "dist" / "run.sh"
    script.write_text("exit")
    script.chmod(0o4755)
    os.utime(script, (1_500_000_000, 1_500_000_000))
    (workspace / "dist" / "deep").chmod(0o750)
    (workspace / "dist" / "current").symlink_to("deep/er")
    (workspace / "dist" / "python").symlink_to("/usr/bin/python3")
    (workspace / "dist" / "dangling").symlink_to("../../../nowhere")
    moved(workspace, other, "dist")
    found = (other / "dist" / "run.sh").stat()
    assert (found.st_mode & 0o7777, found.st_mtime) == (0o755, 1_500_000_000)
    assert (other / "dist" / "deep").stat().st_mode & 0o777 == 0o750
    links = {path.name: str(path.readlink()) for path in (other / "dist").iterdir() if path.is_symlink()}
    assert links == {"current": "deep/er", "python": "/usr/bin/python3", "dangling": "../../../nowhere"}


def test_links_are_not_followed_to_files_elsewhere(workspace: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (workspace / "dist" / "way").symlink_to(tmp_path / "secret")
    assert "dist/way" in moved(workspace, other, "dist/way", "dist/way/*", "**/key")
    assert (other / "dist" / "way").is_symlink()
    assert hash_files(workspace, ["dist/way/*"], uid=os.geteuid()) == ""


def test_a_second_name_of_another_users_file_is_refused(workspace: Path, tmp_path: Path) -> None:
    os.link(workspace / "notes.txt", workspace / "dist" / "notes")
    with pytest.raises(FilesUnusable, match="belongs to another user"):
        pack(workspace, ["dist"], tmp_path / "archive", uid=os.geteuid() + 1)


def test_pipes_and_sockets_are_left_out_and_counted(workspace: Path, tmp_path: Path) -> None:
    os.mkfifo(workspace / "dist" / "pipe")
    packed = pack(workspace, ["dist", "missing/*"], tmp_path / "archive")
    assert (packed.files, packed.left_out, packed.unused) == (3, 1, ["missing/*"])
    assert [one.path for one in packed.listing] == ["dist/.hidden", "dist/a.whl", "dist/deep/er/b.txt"]


def test_odd_names_and_long_paths_arrive(workspace: Path, other: Path) -> None:
    odd = {os.fsdecode(b"latin-\xe9"), "line\nbreak", "ünï", "-rf", "x" * 250, "/".join(["y" * 90] * 5)}
    for name in odd:
        (workspace / "odd" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "odd" / name).write_text(name, errors="surrogateescape")
    assert moved(workspace, other, "odd") == {f"odd/{name}" for name in odd}


def test_the_same_files_give_the_same_bytes_and_their_hashes(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PART_BYTES", 1000)
    (workspace / "dist" / "random").write_bytes(os.urandom(5000))
    first = pack(workspace, ["dist"], tmp_path / "one")
    assert pack(workspace, ["dist"], tmp_path / "two") == first
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    assert (first.size, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert first.parts == [hashlib.sha256(data[at : at + 1000]).hexdigest() for at in range(0, len(data), 1000)]


def test_other_programs_read_the_archive(workspace: Path, tmp_path: Path) -> None:
    pack(workspace, ["dist"], tmp_path / "archive")
    listed = subprocess.run(["tar", "-tf", tmp_path / "archive"], check=True, capture_output=True, text=True).stdout
    assert listed.split() == [
        "dist/",
        "dist/.hidden",
        "dist/a.whl",
        "dist/deep/",
        "dist/deep/er/",
        "dist/deep/er/b.txt",
    ]


def test_files_above_the_limit_are_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(FilesUnusable, match="too large"):
        pack(workspace, ["dist"], tmp_path / "archive", limit=30)
    assert not (tmp_path / "archive").exists()


def test_unpacking_replaces_files_and_links_but_no_folders(workspace: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("kept")
    (other / "dist").mkdir()
    (other / "dist" / "a.whl").symlink_to(tmp_path / "outside")
    (other / "dist" / "kept").write_text("kept")
    moved(workspace, other, "dist")
    assert (other / "dist" / "a.whl").read_text() == "content of dist/a.whl"
    assert (other / "dist" / "kept").exists()
    assert (tmp_path / "outside").read_text() == "kept"
    (other / "notes.txt").mkdir()
    with pytest.raises(ArchiveInvalid, match="is a folder"):
        moved(workspace, other, "notes.txt")


def test_zstd_archives_are_read_by_this_python_or_the_program(workspace: Path, other: Path, tmp_path: Path) -> None:
    pack(workspace, ["dist"], tmp_path / "archive")
    with archive._decompressor(tmp_path / "archive") as raw:
        plain = raw.read()
    (tmp_path / "zstd").write_bytes(
        subprocess.run(["zstd", "--stdout", "--quiet"], input=plain, capture_output=True, check=True).stdout
    )
    unpack(tmp_path / "zstd", other)
    assert (other / "dist" / "a.whl").exists()


# Hostile archives


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/tmp/evil")],
        [entry("../evil")],
        [entry("a/../../evil")],
        [entry("a//b")],
        [entry(".")],
        [entry(".git/config")],
        [entry(".GIT/hooks/post-checkout")],
        [entry("way", tarfile.SYMTYPE, ".."), entry("way/evil")],
        [entry("way", tarfile.SYMTYPE, "/tmp"), entry("way/evil")],
        [entry("a", tarfile.SYMTYPE, ".."), entry("b", tarfile.SYMTYPE, "a"), entry("b/evil", tarfile.DIRTYPE)],
        [entry("way", tarfile.SYMTYPE, ".."), entry("way", tarfile.DIRTYPE)],
        [entry("file"), entry("file/evil")],
        [entry("hard", tarfile.LNKTYPE, "../secret")],
        [entry("device", tarfile.CHRTYPE)],
        [entry("disk", tarfile.BLKTYPE)],
        [entry("pipe", tarfile.FIFOTYPE)],
        [entry("sparse", tarfile.GNUTYPE_SPARSE)],
        [entry("empty-link", tarfile.SYMTYPE, "")],
    ],
)
def test_a_hostile_archive_writes_nothing_outside_the_workspace(
    entries: list[tarfile.TarInfo], tmp_path: Path, other: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    before = names(tmp_path)
    with pytest.raises(ArchiveInvalid):
        unpack(made(*entries, target=tmp_path / "hostile"), other)
    assert not (tmp_path / "evil").exists()
    assert {name for name in names(tmp_path) if not name.startswith("other/")} == before | {"hostile"}
    assert not (other / ".git").exists()
    assert not any(path.stat(follow_symlinks=False).st_nlink > 1 for path in other.iterdir() if path.is_file())


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = entry(name, kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


BOMBS: dict[str, Callable[[], bytes]] = {
    "an extended header of 8 GB": lambda: header(tarfile.XHDTYPE, 8_000_000_000) + bytes(10_000_000),
    "a long name of GNU's": lambda: header(tarfile.GNUTYPE_LONGNAME, 8_000_000_000) + bytes(10_000_000),
    "global headers": lambda: header(tarfile.XGLTYPE, 512) + bytes(512),
    "a record without end": lambda: header(tarfile.XHDTYPE, 512) + b"999999 path=x".ljust(512, b"\0"),
    "a record in a circle": lambda: header(tarfile.XHDTYPE, 512) + b"0 path=x\n".ljust(512, b"\0"),
    "a size below zero": lambda: header(tarfile.REGTYPE, -512),
    "a file that is cut off": lambda: header(tarfile.REGTYPE, 10_000) + b"x" * 512,
    "no end": lambda: header(tarfile.DIRTYPE, 0),
    "no header": lambda: b"\x01" * 512,
    "a file above the limit": lambda: header(tarfile.REGTYPE, 60_000_000) + bytes(60_000_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused(bomb: str, tmp_path: Path, other: Path) -> None:
    (tmp_path / "bomb").write_bytes(gzip.compress(BOMBS[bomb](), 1))
    with pytest.raises(ArchiveInvalid):
        unpack(tmp_path / "bomb", other, limit=50_000_000)
    assert sum(path.stat().st_size for path in other.iterdir()) < 1_000_000


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"PK\x03\x04 a zip", b"\x1f\x8b\x08\0\0\0\0\0\0\0garbage"])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path, other: Path) -> None:
    (tmp_path / "no-archive").write_bytes(data)
    with pytest.raises(ArchiveInvalid):
        unpack(tmp_path / "no-archive", other)


def test_too_many_files_are_refused(tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 10)
    hostile = made(*(entry(str(number)) for number in range(11)), target=tmp_path / "hostile")
    with pytest.raises(ArchiveInvalid, match="more than 10 files"):
        unpack(hostile, other)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd itself")
def test_a_machine_without_zstd_says_what_to_install(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "zstd.tar").write_bytes(b"\x28\xb5\x2f\xfd and more")
    with pytest.raises(ArchiveInvalid, match="the program zstd"):
        unpack(tmp_path / "zstd.tar", other)


# hashFiles


def test_the_hash_of_files_is_about_their_names_and_contents(workspace: Path) -> None:
    def hashed(*patterns: str) -> str:
        return hash_files(workspace, patterns, uid=os.geteuid())

    before = hashed("dist/**", "src/*")
    assert len(before) == 64
    assert hashed("src/*", "dist/**") == before, "the order of patterns matters"
    os.utime(workspace / "src" / "main.c", (1, 1))
    assert hashed("dist/**", "src/*") == before
    (workspace / "src" / "main.c").rename(workspace / "src" / "other.c")
    renamed = hashed("dist/**", "src/*")
    (workspace / "src" / "other.c").write_text("other")
    assert len({before, renamed, hashed("dist/**", "src/*")}) == 3
    assert hashed("missing/**") == ""
