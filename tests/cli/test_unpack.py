"""Archives of hostile jobs are unpacked inside of the folder, or not at all."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hci.errors import HciError, UsageProblem
from hci.unpack import unpack

Packed = Callable[..., Path]


def file(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = 4, mode
    return member


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def folder(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    def pack(*members: tarfile.TarInfo) -> Path:
        archive = tmp_path / "out.tar.gz"
        with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as opened:
            for member in members:
                opened.addfile(member, io.BytesIO(b"data" * (member.size // 4)))
        return archive

    return pack


def test_files_folders_and_links_that_stay_inside_are_unpacked(packed: Packed, tmp_path: Path) -> None:
    archive = packed(
        link("bin/tool", "../lib/tool"),
        file("lib/tool", 0o4777),
        folder("empty"),
        file("a.txt"),
        link("b.txt", "a.txt"),
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
        [file("../evil")],
        [file("/tmp/hci-evil")],
        [file("a/../../evil")],
        [link("way", "/tmp")],
        [link("way", "..")],
        [link("a/way", "../..")],
        [link("a/near", ".."), link("way", "a/near/..")],
        [link("d/near", ".."), link("d/near/way", "../../evil")],
        [link("way", "."), file("way/evil")],
        [file("way/evil"), link("way", "..")],
        [file("same"), file("same")],
        [file("same"), file("same/evil")],
        [link("hard", "../evil", tarfile.LNKTYPE)],
        [link("pipe", "", tarfile.FIFOTYPE)],
        [link("device", "", tarfile.CHRTYPE)],
        [link("sparse", "", tarfile.GNUTYPE_SPARSE)],
        [file("a" * 300)],
    ],
    ids=lambda members: " and ".join(f"{one.name[:20]} {one.linkname}".strip() for one in members),
)
def test_an_archive_with_a_member_that_might_get_out_is_not_unpacked(
    packed: Packed, tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    archive = packed(file("first"), *members)
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]
    assert not Path("/tmp/hci-evil").exists()


def test_links_with_paths_too_long_to_follow_do_not_get_out(packed: Packed, tmp_path: Path) -> None:
    """As CVE-2025-4517 has it: behind a path of over PATH_MAX bytes, what `realpath` says is not where a link leads."""
    long, way = "d" * 247, ""
    members = []
    for letter in "abcdefghijklmnop":
        members += [folder(f"{way}{long}"), link(f"{way}{letter}", long)]
        way += f"{long}/"
    short = "/".join("abcdefghijklmnop")
    members += [link(f"{short}/{'l' * 254}", "../" * 16), link("escape", f"{short}/{'l' * 254}/../evil")]
    archive = packed(*members, file("escape"))
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
    archive = packed(*(file(f"{number}.txt") for number in range(20)))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(HciError, match="is not unpacked"):
        unpack(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_folder_that_exists_and_another_kind_of_archive_are_named(packed: Packed, tmp_path: Path) -> None:
    archive = packed(file("first"))
    with pytest.raises(UsageProblem, match="exists already"):
        unpack(archive, tmp_path)
    with pytest.raises(UsageProblem, match="Only"):
        unpack(tmp_path / "out.tar.zst", tmp_path / "out")
