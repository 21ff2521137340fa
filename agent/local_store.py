"""Artifacts and caches of jobs that run without a control plane: files in a folder of the checkout."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional, Union

from agent.storage_requests import FoundCache, StoredArtifact
from agent.transfer import Download

_SUFFIX = ".archive"


def file_name(name: str) -> str:
    """A name for files, unique for each name of a job or key of a cache."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60]
    return f"{readable}.{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:12]}"


class LocalStore:
    """The store of one job, an `agent.store.Store`."""

    def __init__(self, folder: Path, node: str) -> None:
        """Raises OSError."""
        self._artifacts = folder / "artifacts"
        self._caches = folder / "caches"
        self._node = node
        for part in (self._artifacts, self._caches):
            part.mkdir(parents=True, exist_ok=True)

    def archive(self, name: str) -> Path:
        return self._artifacts / f"{file_name(self._node)}.{name}.new"

    def artifacts(self, nodes: list[str]) -> list[StoredArtifact]:
        stored = []
        for node in nodes:
            path = self._artifacts / f"{file_name(node)}{_SUFFIX}"
            document = _read(path)
            if document is not None:
                stored.append(StoredArtifact(str(document["name"]), node, _source(path, document)))
        return stored

    def artifact_put(self, archive: Path, report: dict[str, Any], _check: Callable[[], None]) -> None:
        _put(archive, self._artifacts / f"{file_name(self._node)}{_SUFFIX}", report)

    def cache(self, key: str, restore_keys: list[str]) -> Optional[FoundCache]:
        path = self._caches / f"{file_name(key)}{_SUFFIX}"
        document = _read(path)
        if document is not None:
            return FoundCache(key, True, _source(path, document))
        newest_first = sorted(self._caches.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
        documents = [(one, _read(one)) for one in newest_first]
        for prefix in sorted(restore_keys, key=len, reverse=True):
            for path, document in documents:
                if document is not None and str(document["key"]).startswith(prefix):
                    return FoundCache(str(document["key"]), False, _source(path, document))
        return None

    def cache_put(self, archive: Path, report: dict[str, Any], _check: Callable[[], None]) -> bool:
        path = self._caches / f"{file_name(report['key'])}{_SUFFIX}"
        if _read(path) is not None:
            return False
        _put(archive, path, report)
        return True

    @contextmanager
    def fetched(self, found: Union[StoredArtifact, FoundCache], _check: Callable[[], None]) -> Iterator[Path]:
        yield Path(found.source.url)


def _put(archive: Path, path: Path, report: dict[str, Any]) -> None:
    archive.replace(path)
    kept = {name: value for name, value in report.items() if name not in ("files", "parts")}
    path.with_suffix(".json").write_text(json.dumps(kept))


def _read(path: Path) -> Optional[dict[str, Any]]:
    """What is known of the archive. None if there is none."""
    try:
        document = json.loads(path.with_suffix(".json").read_bytes())
        return document if isinstance(document, dict) and path.exists() else None
    except (OSError, ValueError):
        return None


def _source(path: Path, document: dict[str, Any]) -> Download:
    return Download(int(document["size"]), str(document["sha256"]), str(path), {})
