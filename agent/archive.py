"""Archives of files in a workspace: tar, compressed with zstd where this Python has it, else with gzip.

Archives come from jobs of others, so unpacking trusts nothing in them. It takes files, folders and links, and refuses
everything else. No path leads out of the workspace, neither by its name nor through a link. Sizes, numbers and memory
are bounded. Links are stored as links, and may point anywhere: only who follows them goes there, and this never does.

The same files give the same bytes: names are sorted, owners are left out, and times have whole seconds. Times are kept,
since build tools compare them with those of sources.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib
import os
import re
import shutil
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Optional

from agent.workspace_files import MAX_ENTRIES, READ_BYTES, Entry, FilesUnusable, Patterns, opened

# The hashes of parts are about so many bytes each; the last part has the rest. S3 takes parts from 5 MiB on.
PART_BYTES = 64 * 1024 * 1024
# The most bytes of all files in an archive.
MAX_CONTENT_BYTES = 50 * 1024**3

# How much of the listing of an archive the control plane takes: so many files, and 1 MiB for the whole request.
_LISTED_MOST = 10_000
_LISTING_BYTES = 700_000
_LISTED_BYTES = 60

_BLOCK = 512
_END = bytes(_BLOCK)
_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)
_GZIP_LEVEL = 3
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# Names have at most 4096 bytes, in the header and in the target of a link.
_MAX_EXTENDED_BYTES = 32 * 1024
_MAX_NAME_BYTES = 4096
_EXTENDED = re.compile(rb"(\d{1,6}) ([A-Za-z.]{1,64})=")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A frame of zstd may ask for a window of gigabytes; those that `pack` writes have 2 MiB.
_ZSTD_WINDOW_LOG = 23


class ArchiveInvalid(Exception):
    """The archive is damaged, hostile or too large, or this machine cannot read it. The message says what is wrong."""


@dataclass(frozen=True)
class ListedFile:
    """A file in an archive; `mode` is its permission bits."""

    path: str
    size: int
    mode: int


@dataclass(frozen=True)
class Packed:
    """An archive on disk. `parts` are the SHA-256 of its parts of PART_BYTES each, `sha256` is that of all bytes.

    `files` counts files and links, `content_bytes` is the size of all files, `left_out` how many sockets, pipes and
    devices are not in it. `unused` has the patterns that matched nothing, `listing` the first files.
    """

    size: int
    sha256: str
    parts: list[str]
    media: str
    files: int
    content_bytes: int
    left_out: int
    unused: list[str]
    listing: list[ListedFile]


@dataclass
class _Content:
    """What an archive has so far."""

    files: int = 0
    content_bytes: int = 0
    left_out: int = 0
    listing: list[ListedFile] = field(default_factory=list)
    listed_bytes: int = 0

    def add_file(self, info: tarfile.TarInfo) -> None:
        """Count a file or link, and list a file while there is room."""
        self.files += 1
        self.content_bytes += info.size
        self.listed_bytes += len(info.name.encode(errors="replace")) + _LISTED_BYTES
        if info.isreg() and len(self.listing) < _LISTED_MOST and self.listed_bytes < _LISTING_BYTES:
            self.listing.append(ListedFile(info.name, info.size, info.mode))


@dataclass(frozen=True)
class Unpacked:
    """How many files and links an archive had, and the size of all files."""

    files: int
    content_bytes: int


def pack(
    workspace: Path,
    patterns: Sequence[str],
    target: Path,
    *,
    uid: Optional[int] = None,
    limit: int = MAX_CONTENT_BYTES,
    check: Callable[[], None] = lambda: None,
) -> Packed:
    """Write what the patterns match to the archive `target`.

    `uid` is the user that the job's files belong to, by default the agent's own, `limit` the most bytes of all files.
    `check` is called often; it may raise. Raises FilesUnusable and OSError. Nothing remains of `target` then.
    """
    chosen = Patterns(patterns)
    content = _Content()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            hashing = _HashingFile(file)
            with _compressor(hashing) as output:
                for entry in chosen.walk(workspace, check):
                    _add(output, entry, os.geteuid() if uid is None else uid, content, limit, check)
                output.write(_END * 2)
        whole, parts = hashing.digests()
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
    return Packed(
        size=hashing.size,
        sha256=whole,
        parts=parts,
        media="application/x-tar+gzip" if _zstd() is None else "application/x-tar+zstd",
        files=content.files,
        content_bytes=content.content_bytes,
        left_out=content.left_out,
        unused=chosen.unused(),
        listing=content.listing,
    )


def unpack(
    archive: Path,
    workspace: Path,
    *,
    limit: int = MAX_CONTENT_BYTES,
    check: Callable[[], None] = lambda: None,
) -> Unpacked:
    """Write what is in the archive to the workspace. It replaces files and links that are there, but no folders.

    `limit` is the most bytes of all files and headers together, `check` as for `pack`. Raises ArchiveInvalid and
    OSError; what was written before stays.
    """
    files = content_bytes = 0
    top = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _decompressor(archive) as raw:
            source = _Source(raw, limit)
            for count, info in enumerate(_headers(source)):
                if count >= MAX_ENTRIES:
                    raise ArchiveInvalid(f"it has more than {MAX_ENTRIES:,} files")
                check()
                _write(info, source, top, check)
                files += not info.isdir()
                content_bytes += info.size
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveInvalid(f"it is damaged ({error})") from error
    finally:
        os.close(top)
    return Unpacked(files, content_bytes)


def room_for(workspace: Path) -> int:
    """How many bytes may be written to the workspace's disk so that a twentieth of it stays free. Raises OSError."""
    disk = shutil.disk_usage(workspace)
    return min(MAX_CONTENT_BYTES, max(0, disk.free - disk.total // 20))


# Packing


class _HashingFile:
    """Writes to a file and hashes what it writes, as a whole and in parts."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._whole = hashlib.sha256()
        self._part = hashlib.sha256()
        self._parts: list[str] = []
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._whole.update(view)
        written = 0
        while written < len(view):
            # A part ends here only when there is more.
            if self.size and self.size % PART_BYTES == 0:
                self._parts.append(self._part.hexdigest())
                self._part = hashlib.sha256()
            piece = view[written : written + PART_BYTES - self.size % PART_BYTES]
            self._part.update(piece)
            self.size += len(piece)
            written += len(piece)
        while view:
            view = view[self._file.write(view) :]
        return written

    def flush(self) -> None:
        """The file has no buffer."""

    def digests(self) -> tuple[str, list[str]]:
        return self._whole.hexdigest(), [*self._parts, self._part.hexdigest()]


@contextmanager
def _compressor(target: _HashingFile) -> Iterator[Any]:
    zstd = _zstd()
    output: Any
    if zstd is not None:
        output = zstd.ZstdFile(target, "wb")
    else:
        file: Any = target
        output = gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=file, mtime=0)
    with output:
        yield output


def _zstd() -> Any:
    """The module compression.zstd, or None on a Python older than 3.14."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def _add(output: Any, entry: Entry, uid: int, content: _Content, limit: int, check: Callable[[], None]) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode = stat.S_IMODE(entry.found.st_mode) & 0o777
    info.mtime = max(0, int(entry.found.st_mtime))
    kind = stat.S_IFMT(entry.found.st_mode)
    if kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
        output.write(_header(info))
    elif kind == stat.S_IFLNK:
        info.type, info.mode = tarfile.SYMTYPE, 0o777
        info.linkname = os.readlink(entry.name, dir_fd=entry.folder)
        output.write(_header(info))
        content.add_file(info)
    elif kind == stat.S_IFREG:
        _add_file(output, entry, info, uid, limit - content.content_bytes, check)
        content.add_file(info)
    else:
        content.left_out += 1


def _add_file(output: Any, entry: Entry, info: tarfile.TarInfo, uid: int, room: int, check: Callable[[], None]) -> None:
    with opened(entry, uid) as descriptor:
        info.size = left = os.fstat(descriptor).st_size
        if left > room:
            raise FilesUnusable("the files are too large together, or the disk has too little room for their archive")
        output.write(_header(info))
        while left:
            check()
            data = os.read(descriptor, min(left, READ_BYTES))
            if not data:
                raise FilesUnusable(f"{entry.path} became shorter while it was read")
            output.write(data)
            left -= len(data)
    output.write(bytes(-info.size % _BLOCK))


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


# Unpacking


class _Source:
    """The bytes of a tar archive, up to a limit."""

    def __init__(self, raw: BinaryIO, limit: int) -> None:
        self._raw = raw
        self._left = limit

    def reserve(self, size: int) -> None:
        """Raises ArchiveInvalid if so many bytes are above the limit."""
        if size > self._left:
            raise ArchiveInvalid("its files need more room than there is for them")

    def read(self, size: int) -> bytes:
        """Exactly so many bytes. Raises ArchiveInvalid."""
        self.reserve(size)
        self._left -= size
        data = self._raw.read(size)
        while data and len(data) < size:
            more = self._raw.read(size - len(data))
            if not more:
                break
            data += more
        if len(data) < size:
            raise ArchiveInvalid("it is cut off")
        return data


@contextmanager
def _decompressor(archive: Path) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        file = stack.enter_context(archive.open("rb", buffering=0))
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == _GZIP_MAGIC:
            yield stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[misc]
        elif magic == _ZSTD_MAGIC:
            yield stack.enter_context(_zstd_reader(file))
        else:
            raise ArchiveInvalid("it is neither gzip nor zstd")


@contextmanager
def _zstd_reader(file: Any) -> Iterator[Any]:
    """The bytes in the file, by this Python or by the program zstd."""
    zstd = _zstd()
    if zstd is not None:
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        try:
            with zstd.ZstdFile(file, "rb", options=options) as opened_file:
                yield opened_file
        except zstd.ZstdError as error:
            raise ArchiveInvalid(f"it is damaged ({error})") from error
        return
    program = shutil.which("zstd")
    if program is None:
        raise ArchiveInvalid(
            "an agent with Python 3.14 has made it, and this machine has neither that nor the program zstd. "
            "Install one of them"
        )
    process = subprocess.Popen(
        [program, "--decompress", "--stdout", "--quiet", f"--memory={1 << _ZSTD_WINDOW_LOG}"],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.stdout
    finally:
        process.kill()
        process.communicate()


def _headers(source: _Source) -> Iterator[tarfile.TarInfo]:
    """The header of each entry. Before the next, the entry's own bytes must have been read from the source."""
    extended: dict[str, str] = {}
    while (block := source.read(_BLOCK)) != _END:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise ArchiveInvalid(f"it is damaged ({error})") from error
        if info.type == tarfile.XHDTYPE:
            extended = _extended(source, info.size)
            continue
        _extend(info, extended)
        extended = {}
        if info.size < 0 or (info.size and not info.isreg()):
            raise ArchiveInvalid(f"{info.name!r} has an invalid size")
        yield info


def _extended(source: _Source, size: int) -> dict[str, str]:
    """The records of an extended header (POSIX.1-2001, pax)."""
    if not 0 <= size <= _MAX_EXTENDED_BYTES:
        raise ArchiveInvalid("it has a header that is too large")
    data = source.read(size + -size % _BLOCK)[:size]
    records = {}
    position = 0
    while position < size:
        match = _EXTENDED.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= size or data[end - 1 : end] != b"\n":
            raise ArchiveInvalid("it has a header that is damaged")
        records[match[2].decode()] = data[match.end() : end - 1].decode("utf-8", "surrogateescape")
        position = end
    return records


def _extend(info: tarfile.TarInfo, records: dict[str, str]) -> None:
    info.name = records.get("path", info.name).rstrip("/")
    info.linkname = records.get("linkpath", info.linkname)
    size = records.get("size")
    if size is not None:
        if not re.fullmatch(r"[0-9]{1,18}", size):
            raise ArchiveInvalid(f"{info.name!r} has an invalid size")
        info.size = int(size)


def _write(info: tarfile.TarInfo, source: _Source, top: int, check: Callable[[], None]) -> None:
    """Write one entry to the workspace `top`."""
    if info.type not in _TYPES:
        raise ArchiveInvalid(f"{info.name!r} is no file, folder or link")
    *folders, name = _names(info)
    with _folder(top, folders, info.name) as folder:
        if info.isdir():
            _write_folder(info, folder, name)
            return
        _make_room(info, folder, name)
        if info.issym():
            os.symlink(info.linkname, name, dir_fd=folder)
        else:
            _write_file(info, source, folder, name, check)


def _names(info: tarfile.TarInfo) -> list[str]:
    names = info.name.split("/")
    size = len(os.fsencode(info.name))
    if size > _MAX_NAME_BYTES or "\0" in info.name or any(name in ("", ".", "..") for name in names):
        raise ArchiveInvalid(f"{info.name[:200]!r} is no path in a workspace")
    # git obeys what is there. The file systems of macOS do not distinguish upper and lower case.
    if names[0].lower() == ".git":
        raise ArchiveInvalid(f"{info.name!r} belongs to git")
    if info.issym() and not 0 < len(os.fsencode(info.linkname)) < _MAX_NAME_BYTES:
        raise ArchiveInvalid(f"{info.name!r} is a link to an invalid path")
    return names


@contextmanager
def _folder(top: int, names: list[str], path: str) -> Iterator[int]:
    """The descriptor of the folder with these names below `top`. Folders that are missing are made."""
    current = os.dup(top)
    try:
        for name in names:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=current)
            try:
                inner = os.open(name, _FOLDER, dir_fd=current)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                    raise
                raise ArchiveInvalid(f"{path!r} leads through {name!r}, which is no folder in the workspace") from error
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def _make_room(info: tarfile.TarInfo, folder: int, name: str) -> None:
    """Remove the file or link that is in the place of an entry."""
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            raise ArchiveInvalid(f"{info.name!r} is a folder in the workspace")
        os.unlink(name, dir_fd=folder)


def _write_folder(info: tarfile.TarInfo, folder: int, name: str) -> None:
    # Its owner must be able to write what follows, and to remove it.
    with _folder(folder, [name], info.name) as made:
        os.fchmod(made, info.mode & 0o777 | stat.S_IRWXU)


def _write_file(info: tarfile.TarInfo, source: _Source, folder: int, name: str, check: Callable[[], None]) -> None:
    source.reserve(info.size)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        left = info.size
        while left:
            check()
            data = source.read(min(left, READ_BYTES))
            file.write(data)
            left -= len(data)
        file.flush()
        os.fchmod(descriptor, info.mode & 0o777)
        if 0 <= info.mtime < 1 << 40:
            os.utime(descriptor, (info.mtime, info.mtime))
    source.read(-info.size % _BLOCK)
