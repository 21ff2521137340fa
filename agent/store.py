"""Where the artifacts and caches of one job are: for an agent, the storage that the control plane names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional, Protocol, Union

from agent.archive import PART_BYTES
from agent.protocol import Assignment
from agent.storage_requests import FoundCache, Opened, StorageRequests, StoredArtifact
from agent.transfer import PATIENCE_SECONDS, Download, TransferFailed, download, upload

# After so many tries the control plane and the storage do not agree about what is stored.
_COMPLETIONS = 3
# A job does not wait for long for a cache, since it can do without.
_CACHE_PATIENCE_SECONDS = 60.0
# A download that was interrupted is of use for the next try of its job.
_KEPT_SECONDS = 24 * 3600
_DOWNLOAD_SUFFIX = ".download"

Check = Callable[[], None]


class Store(Protocol):
    """All methods raise StorageRefused, TransferFailed, Interrupted and OSError, and what `check` raises."""

    def archive(self, name: str) -> Path:
        """The path for an archive of this job, which `put` takes."""

    def artifacts(self, nodes: list[str]) -> list[StoredArtifact]:
        """The artifacts of these jobs of the run."""

    def artifact_put(self, archive: Path, report: dict[str, Any], check: Check) -> None:
        """Store the artifact that the report describes."""

    def cache(self, key: str, restore_keys: list[str]) -> Optional[FoundCache]:
        """The cache with the key, or else the newest under the longest of the restore keys."""

    def cache_put(self, archive: Path, report: dict[str, Any], check: Check) -> bool:
        """Store the cache that the report describes. Returns False if there is one with its key already."""

    @contextmanager
    def fetched(self, found: Union[StoredArtifact, FoundCache], check: Check) -> Iterator[Path]:
        """The archive on disk, for as long as the context lasts."""


class Archives:
    """The agent's folder of archives on their way. It is on the disk of the workspaces, and survives a restart."""

    def __init__(self, path: Path) -> None:
        """The folder is made when it is needed: a start must not fail for it."""
        self._path = path
        self._lock = threading.Lock()
        self._downloading: set[str] = set()

    def recover(self, jobs: list[Assignment]) -> None:
        """Remove what an earlier run has left, except for the uploads of these attempts and recent downloads."""
        kept = tuple(f"{job.job_id}.{job.attempt}." for job in jobs)
        for path in self._path.glob("*"):
            with suppress(OSError):
                age = time.time() - path.stat().st_mtime  # noqa: TID251 — the clock that files go by
                is_recent = _DOWNLOAD_SUFFIX in path.name and age < _KEPT_SECONDS
                if not path.name.startswith(kept) and not is_recent:
                    path.unlink()

    def upload(self, job: Assignment, name: str) -> Path:
        """The path for an archive of the attempt. Raises OSError if there cannot be any."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._path / f"{job.job_id}.{job.attempt}.{name}"

    @contextmanager
    def downloaded(
        self, job: Assignment, first: Download, ask: Callable[[], Download], check: Check, *, patience: float
    ) -> Iterator[Path]:
        """Fetch an archive, or what is missing of it. It is removed afterwards, but stays if this is interrupted."""
        name = first.sha256
        with self._lock:
            if name in self._downloading:
                # Another job fetches the same.
                name = f"{name}.{job.job_id}.{job.attempt}"
            self._downloading.add(name)
        path = self._path / f"{name}{_DOWNLOAD_SUFFIX}"
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            download(path, first, ask=ask, check=check, patience=patience)
            yield path
            path.unlink()
        finally:
            with self._lock:
                self._downloading.discard(name)


class RemoteStore:
    """The store of one attempt of an agent's job."""

    def __init__(self, requests: StorageRequests, archives: Archives, job: Assignment) -> None:
        self._requests = requests
        self._archives = archives
        self._job = job

    def archive(self, name: str) -> Path:
        return self._archives.upload(self._job, name)

    def artifacts(self, nodes: list[str]) -> list[StoredArtifact]:
        return self._requests.artifacts_fetch(nodes)

    def artifact_put(self, archive: Path, report: dict[str, Any], check: Check) -> None:
        requests = self._requests
        self._put(
            archive,
            lambda: requests.artifact_open(report),
            requests.artifact_complete,
            check,
            patience=PATIENCE_SECONDS,
        )

    def cache(self, key: str, restore_keys: list[str]) -> Optional[FoundCache]:
        return self._requests.cache_find(key, restore_keys)

    def cache_put(self, archive: Path, report: dict[str, Any], check: Check) -> bool:
        requests = self._requests
        opened = requests.cache_open(report)
        if opened is None:
            return False

        def go_on() -> Opened:
            # Meanwhile another job may have stored it.
            return requests.cache_open(report) or Opened("", [])

        self._put(
            archive,
            go_on,
            lambda cache_id: not cache_id or requests.cache_complete(cache_id),
            check,
            patience=_CACHE_PATIENCE_SECONDS,
        )
        return True

    @contextmanager
    def fetched(self, found: Union[StoredArtifact, FoundCache], check: Check) -> Iterator[Path]:
        def ask() -> Download:
            again = self._again(found)
            if again is None or (again.sha256, again.size) != (found.source.sha256, found.source.size):
                raise TransferFailed("it was removed or replaced meanwhile", is_network=False)
            return again

        patience = _CACHE_PATIENCE_SECONDS if isinstance(found, FoundCache) else PATIENCE_SECONDS
        with self._archives.downloaded(self._job, found.source, ask, check, patience=patience) as path:
            yield path

    def _again(self, found: Union[StoredArtifact, FoundCache]) -> Optional[Download]:
        """The same with another URL."""
        if isinstance(found, FoundCache):
            cache = self._requests.cache_find(found.key, [])
            return cache.source if cache else None
        for one in self._requests.artifacts_fetch([found.node]):
            if one.name == found.name:
                return one.source
        return None

    def _put(
        self,
        archive: Path,
        begin: Callable[[], Opened],
        complete: Callable[[str], bool],
        check: Check,
        *,
        patience: float,
    ) -> None:
        upload_id = ""

        def ask() -> Any:
            nonlocal upload_id
            opened = begin()
            upload_id = opened.upload_id
            return opened.uploads

        for _ in range(_COMPLETIONS):
            upload(archive, part_bytes=PART_BYTES, ask=ask, check=check, patience=patience)
            if complete(upload_id):
                return
        raise TransferFailed("parts that were sent are not in the storage", is_network=False)
