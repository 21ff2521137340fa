"""Mirrors: what this agent has already fetched of each repository, so that no job fetches it twice.

A mirror is a bare repository with only those commits that jobs have asked for, without their history. It makes jobs
faster and decides nothing: a job learns the id of its commit from the repository itself or from its own ref. It gets
copies of the mirror's packs, so what a step does to its workspace stays there.

git hashes every object when it fetches. From then on the agent remembers inode, size and times of each pack. If these
differ at a later use, and at the first use after a start, git hashes everything again; a mirror that fails is thrown
away, and the job fetches directly. So a damaged mirror, or one that a step has changed, costs time and nothing else.

Only this agent writes to its mirrors, one job at a time. So a lock file or an unfinished pack that a writer finds was
left by a process that has ended, for example by kill -9.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

from agent import clock
from agent.files import write_private
from agent.removal import remove_folder

logger = logging.getLogger(__name__)

# Runs git with these arguments; returns the exit code and what it printed.
Git = Callable[[list[str]], "tuple[int, bytes]"]

# All mirrors together take at most this much of the disk, at most this share of it, and leave this share free.
MAX_BYTES = 10 * 1024**3
MAX_SHARE_OF_DISK = 0.2
KEPT_FREE_SHARE_OF_DISK = 0.1
MAX_UNUSED_SECONDS = 30 * 24 * 3600
# After so many fetches the packs of a mirror become one, with the commits that were used last.
MAX_PACKS = 50
_KEPT_COMMITS = 20

_REFS = "refs/mirror"
_INCOMING = "incoming"
_OBJECT_ID = re.compile(rb"([0-9a-f]{40}(?:[0-9a-f]{24})?)\n")
# Of a file: inode, size, and the times of the last change of its content and of its inode, in nanoseconds.
_Signature = tuple[int, int, int, int]

_CONFIG = """\
[core]
	repositoryformatversion = 0
	bare = true
[fetch]
	unpackLimit = 1
[remote "origin"]
	url = "{url}"
"""


class MirrorUnusable(Exception):
    """The mirror is damaged, or its files cannot be read or written. The message says why."""


class Mirror:
    """The mirror of one repository. `Mirrors.use` gives it."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.users = 0
        self._url = url
        self._lock = threading.Lock()
        self._generation = 0
        # The packs whose content was hashed; None: not since this agent started.
        self._verified: Optional[dict[str, _Signature]] = None

    @property
    def generation(self) -> int:
        """How often the mirror was thrown away since the agent started."""
        return self._generation

    def has(self, object_id: str) -> bool:
        """Whether the commit or tag was fetched before; that keeps it for longer."""
        with suppress(OSError):
            os.utime(self._ref(object_id))
            os.utime(self.path)
            return True
        return False

    def fetch(self, git: Git, name: str, object_id: str, *, waiting: Callable[[], None]) -> bool:
        """Fetch the ref `name`, which was `object_id` a moment ago. Returns whether the mirror has `object_id` now.

        While another job fetches from the same repository, `waiting` is called several times a second; it may raise.
        Raises MirrorUnusable, and what `git` raises.
        """
        with self._locked(waiting):
            if self.has(object_id):
                return True
            with _unusable_on_errors():
                self._prepare()
            self._verify(git)
            options = ["--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1"]
            code, _ = git(
                ["--git-dir", str(self.path), "fetch", *options, "--", "origin", f"+{name}:{_REFS}/{_INCOMING}"]
            )
            if code != 0:
                return False
            with _unusable_on_errors():
                # Once it has its name, other jobs take the commit from the packs that are known here.
                self._verified = self._signatures()
                self._keep_incoming()
                packs = self._forget_commits()
            if packs > MAX_PACKS:
                # Without a window git only copies; it does not look for better deltas.
                git(["--git-dir", str(self.path), "repack", "-a", "-d", "--quiet", "--window=0"])
                with _unusable_on_errors():
                    self._verified = self._signatures()
        return self.has(object_id)

    def copy_to(self, git_dir: Path, git: Git, *, waiting: Callable[[], None]) -> None:
        """Copy all objects to the repository `git_dir`, which has none yet.

        Raises MirrorUnusable; OSError if the copies cannot be written; and what `git` and `waiting` raise.
        """
        if self._copy(git_dir):
            return
        with self._locked(waiting):
            self._verify(git)
            if not self._copy(git_dir):
                raise MirrorUnusable("its packs changed while they were copied")

    def discard(self, generation: int) -> None:
        """Throw the mirror away, unless another job has done that since `generation`."""
        with self._lock:
            if generation == self._generation:
                self._generation += 1
                self._verified = None
                _remove(self.path)

    def bytes_on_disk(self) -> int:
        """How much of the disk the mirror takes."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                with suppress(OSError):
                    total += Path(folder, name).lstat().st_size
        return total

    def _ref(self, name: str) -> Path:
        return self.path / _REFS / name

    @contextmanager
    def _locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        while not self._lock.acquire(timeout=0.2):
            waiting()
        try:
            yield
        finally:
            self._lock.release()

    def _verify(self, git: Git) -> None:
        """Hash all objects unless the packs are the same files as when that was done last. Raises MirrorUnusable."""
        with _unusable_on_errors():
            found = self._signatures()
            if found == self._verified:
                return
            indexes = [str(self._packs / name) for name in found if name.endswith(".idx")]
            packs = [name for name in found if name.endswith(".pack")]
            code, text = git(["verify-pack", "--", *indexes]) if indexes else (0, b"")
            if code != 0 or len(packs) != len(indexes) or self._signatures() != found:
                raise MirrorUnusable(text.decode(errors="replace").strip() or "its packs are not complete")
            self._verified = found

    def _signatures(self) -> dict[str, _Signature]:
        """All files of packs in the mirror."""
        return {path.name: _signature(path) for path in self._packs.iterdir() if path.name.startswith("pack-")}

    def _copy(self, git_dir: Path) -> bool:
        """Copy the packs that were hashed. Returns whether they are still the same files afterwards."""
        target = git_dir / "objects" / "pack"
        for earlier in target.iterdir():
            earlier.unlink()
        verified = self._verified
        if verified is None:
            return False
        try:
            for name, signature in verified.items():
                shutil.copyfile(self._packs / name, target / name)
                if _signature(self._packs / name) != signature:
                    return False
        except FileNotFoundError:
            # Another job has made one pack of many, or has thrown the mirror away.
            return False
        return True

    @property
    def _packs(self) -> Path:
        return self.path / "objects" / "pack"

    def _prepare(self) -> None:
        """Make the repository if it is missing, and remove what a killed git has left in it."""
        for folder in (self.path, self._packs, self.path / "objects" / "info", self.path / _REFS):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in folder.iterdir():
                if leftover.suffix in (".lock", ".keep") or leftover.name.startswith(("tmp_", ".")):
                    leftover.unlink()
        self._ref(_INCOMING).unlink(missing_ok=True)
        # A step could have written to these files, and git obeys them.
        (self.path / "objects" / "info" / "alternates").unlink(missing_ok=True)
        quoted = self._url.replace("\\", "\\\\").replace('"', '\\"')
        # In one step each, as other jobs read the repository at the same time.
        write_private(self.path / "config", _CONFIG.format(url=quoted).encode(), durable=False)
        write_private(self.path / "HEAD", b"ref: refs/heads/none\n", durable=False)

    def _keep_incoming(self) -> None:
        """Name what was fetched by its id. The branch may have moved since its id was asked for."""
        incoming = self._ref(_INCOMING)
        found = _OBJECT_ID.fullmatch(incoming.read_bytes())
        if found is not None:
            incoming.replace(self._ref(found[1].decode()))

    def _forget_commits(self) -> int:
        """Forget all but the commits that were used last if there are many packs. Returns the number of packs."""
        packs = sum(1 for _ in self._packs.glob("*.pack"))
        if packs > MAX_PACKS:
            refs = sorted((self.path / _REFS).iterdir(), key=lambda ref: ref.stat().st_mtime)
            for ref in refs[:-_KEPT_COMMITS]:
                ref.unlink()
        return packs


class Mirrors:
    """All mirrors of one agent. Jobs share them; `use` may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Keep the mirrors in `folder`, which belongs to this agent alone. Raises OSError."""
        self._folder = folder
        self._lock = threading.Lock()
        self._mirrors: dict[str, Mirror] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for removed in folder.glob(".removed-*"):
            remove_folder(removed)
        self.shrink()

    @contextmanager
    def use(self, url: str, *, realm: str = "") -> Iterator[Mirror]:
        """The mirror of the repository at `url`, which must contain no credentials. It is not removed meanwhile.

        Each `realm` has its own one: what some jobs may fetch, others may not.
        """
        place = f"{url}\n{realm}" if realm else url
        name = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:40] + ".git"
        with self._lock:
            mirror = self._mirrors.setdefault(name, Mirror(self._folder / name, url))
            mirror.users += 1
        try:
            yield mirror
        finally:
            with self._lock:
                mirror.users -= 1

    def shrink(self) -> None:
        """Remove mirrors that were not used for 30 days and, if all take too much, those not used for the longest.

        A mirror that a job uses at this moment stays.
        """
        with self._lock:
            found = []
            for path in self._folder.glob("*.git"):
                # Another job may throw it away at this moment.
                with suppress(OSError):
                    mirror = self._mirrors.get(path.name) or Mirror(path, "")
                    found.append((path.stat().st_mtime, mirror.bytes_on_disk(), mirror))
            if not found:
                return
            total = sum(size for _, size, _ in found)
            limit = self._limit(total)
            for last_used, size, mirror in sorted(found, key=lambda one: one[0]):
                if mirror.users == 0 and (total > limit or clock.epoch() - last_used > MAX_UNUSED_SECONDS):
                    logger.info("the agent removes the mirror %s, which takes %d MiB", mirror.path, size // 1024**2)
                    mirror.discard(mirror.generation)
                    total -= size

    def _limit(self, mirrored: int) -> int:
        """How many bytes all mirrors may take, when they take `mirrored` now."""
        disk = shutil.disk_usage(self._folder)
        kept_free = int(disk.total * KEPT_FREE_SHARE_OF_DISK)
        return min(MAX_BYTES, int(disk.total * MAX_SHARE_OF_DISK), mirrored + disk.free - kept_free)


def _signature(path: Path) -> _Signature:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def _unusable_on_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MirrorUnusable(str(error)) from error


def _remove(path: Path) -> None:
    """Remove the folder so that no half of it can be taken for a mirror, even after a kill -9."""
    aside = path.with_name(f".removed-{secrets.token_hex(8)}")
    with suppress(OSError):
        path.rename(aside)
        remove_folder(aside)
