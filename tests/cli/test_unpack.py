"""Archives of hostile jobs are unpacked inside of the folder, or not at all."""

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hci.errors import HciError, UsageProblem
from hci.unpack import unpack

from tests.tar_archives import entry, made

Packed = Callable[..., Path]


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    def pack(*members: tarfile.TarInfo) -> Path:
        return made(*members, target=tmp_path / "out.tar.gz")

    return pack


def test_files_folders_and_links_that_stay_inside_are_unpacked(packed: Packed, tmp_path: Path) -> None:
    tool = entry("lib/tool")
    tool.mode = 0o4777
    archive = packed(
        entry("bin/tool", tarfile.SYMTYPE, "../lib/tool"),
        tool,
        entry("empty", tarfile.DIRTYPE),
        entry("a.txt"),
        entry("b.txt", tarfile.SYMTYPE, "a.txt"),
    )
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/bin/tool").read_bytes() == (tmp_path / "out/b.txt").read_bytes() == b"data"
    assert (tmp_path / "out/bin/tool").readlink() == Path("../lib/tool")
    assert (tmp_path / "out/empty").is_dir()
    assert [oct((tmp_path / "out" / name).stat().st_mode & 0o7111) for name in ("lib/tool", "a.txt")] == [
        "0o111",
        "0o0",
    ]


@pytest.mark.parametrize(
    "members",
    [
        [entry("../evil")],
        [entry("/tmp/hci-evil")],
        [entry("a/../../evil")],
        [entry("way", tarfile.SYMTYPE, "/tmp")],
        [entry("way", tarfile.SYMTYPE, "..")],
        [entry("a/way", tarfile.SYMTYPE, "../..")],
        [entry("a/near", tarfile.SYMTYPE, ".."), entry("way", tarfile.SYMTYPE, "a/near/..")],
        [entry("d/near", tarfile.SYMTYPE, ".."), entry("d/near/way", tarfile.SYMTYPE, "../../evil")],
        [entry("way", tarfile.SYMTYPE, "."), entry("way/evil")],
        [entry("way/evil"), entry("way", tarfile.SYMTYPE, "..")],
        [entry("same"), entry("same")],
        [entry("same"), entry("same/evil")],
        [entry("hard", tarfile.LNKTYPE, "../evil")],
        [entry("pipe", tarfile.FIFOTYPE, "")],
        [entry("device", tarfile.CHRTYPE, "")],
        [entry("sparse", tarfile.GNUTYPE_SPARSE, "")],
        [entry("a" * 300)],
    ],
    ids=lambda members: " and ".join(f"{one.name[:20]} {one.linkname}".strip() for one in members),
)
def test_an_archive_with_a_member_that_might_get_out_is_not_unpacked(
    packed: Packed, tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    archive = packed(entry("first"), *members)
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]
    assert not Path("/tmp/hci-evil").exists()


def test_links_with_paths_too_long_to_follow_do_not_get_out(packed: Packed, tmp_path: Path) -> None:
    """As CVE-2025-4517 has it: behind a path of over PATH_MAX bytes, what `realpath` says is not where a link leads."""
    long, way = "d" * 247, ""
    members = []
    for letter in "abcdefghijklmnop":
        members += [entry(f"{way}{long}", tarfile.DIRTYPE), entry(f"{way}{letter}", tarfile.SYMTYPE, long)]
        way += f"{long}/"
    short = "/".join("abcdefghijklmnop")
    members += [
        entry(f"{short}/{'l' * 254}", tarfile.SYMTYPE, "../" * 16),
        entry("escape", tarfile.SYMTYPE, f"{short}/{'l' * 254}/../evil"),
    ]
    archive = packed(*members, entry("escape"))
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(
    "data",
    [b"no archive", b"", gzip.compress(b"no archive"), gzip.compress(os.urandom(2048))[:-900]],
    ids=["no gzip", "nothing", "no tar", "cut off"],
)
def test_a_broken_archive_is_not_unpacked(tmp_path: Path, data: bytes) -> None:
    archive = tmp_path / "out.tar.gz"
    archive.write_bytes(data)
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_damaged_archive_is_not_unpacked(packed: Packed, tmp_path: Path) -> None:
    archive = packed(*(entry(f"{number}.txt") for number in range(20)))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_folder_that_exists_and_another_kind_of_archive_are_named(packed: Packed, tmp_path: Path) -> None:
    archive = packed(entry("first"))
    with pytest.raises(UsageProblem, match="exists already"):
        unpack(archive, tmp_path)
    with pytest.raises(UsageProblem, match="Only"):
        unpack(tmp_path / "out.tar.zst", tmp_path / "out")
