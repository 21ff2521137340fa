"""The caches of one attempt: restored before its steps, saved after its success. That one fails is only a warning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent.archive import pack, room_for, unpack
from agent.exchange import Cache
from agent.job_archives import FAILURES, Place
from agent.job_ends import TIMED_OUT, Interrupted
from agent.log_text import counted, one_line, seconds_since, size_text
from agent.machine import MachineFailed, is_machine_failure
from agent.storage_requests import described
from agent.workspace_files import FilesUnusable, hash_files

_MAX_KEY = 500


@dataclass
class _Used:
    """A cache of the job. `key` is complete, and None if it cannot be; `is_exact`: there is one with this key."""

    cache: Cache
    key: Optional[str] = None
    restore_keys: Optional[list[str]] = None
    is_exact: bool = False


class JobCaches:
    """Both methods raise Interrupted and MachineFailed, and OSError if the log cannot be written."""

    def __init__(self, place: Place, caches: list[Cache]) -> None:
        self._place = place
        self._used = [_Used(cache) for cache in caches]

    def restore(self) -> None:
        """Complete the keys and restore what is there."""
        for used in self._used:
            self._try_restore(used)

    def save(self) -> None:
        """Save the caches that were not restored from exactly their keys."""
        for number, used in enumerate(self._used):
            if used.key is None or used.is_exact:
                continue
            try:
                self._save(used, used.key, number)
            except FAILURES as error:
                self._warn(used, "saved", error)
            except Interrupted as interruption:
                if interruption.reason != TIMED_OUT:
                    raise
                # All that the job is for has been done.
                self._warn(used, "saved", TimeoutError("the job's time is over"))

    def _complete(self, text: str) -> str:
        """The key with the hashes of files in it."""
        from agent.pipeline.expressions import Context, ExpressionInvalid, template

        def hashed(patterns: Sequence[str]) -> str:
            digest = hash_files(self._place.folder.workspace, patterns, uid=self._place.uid, check=self._place.check)
            if not digest:
                self._place.stream.say(f"── cache: no file matches {one_line(', '.join(patterns))}")
            return digest

        try:
            key = template(text, Context(hash_files=hashed))
        except ExpressionInvalid as error:
            raise FilesUnusable(f"its key {error.message}") from error
        if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
            raise FilesUnusable(f"its key must have 1 to {_MAX_KEY} characters, without control characters")
        return key

    def _try_restore(self, used: _Used) -> None:
        try:
            used.key = self._complete(used.cache.key)
            used.restore_keys = [self._complete(key) for key in used.cache.restore_keys]
            self._restore(used, used.key)
        except FAILURES as error:
            self._warn(used, "restored", error)

    def _restore(self, used: _Used, key: str) -> None:
        began = time.monotonic()
        found = self._place.store.cache(key, used.restore_keys or [])
        if found is None:
            self._place.stream.say(f"── cache {one_line(key)}: there is none yet")
            return
        with self._place.store.fetched(found, self._place.check) as archive:
            workspace = self._place.folder.workspace
            unpacked = unpack(archive, workspace, limit=room_for(workspace), check=self._place.check)
        used.is_exact = found.is_exact
        origin = "" if found.is_exact else f" from {one_line(found.key)}"
        self._place.stream.say(
            f"── cache {one_line(key)}: restored{origin}, {counted(unpacked.files, 'file')}, "
            f"{size_text(unpacked.content_bytes)}, in {seconds_since(began)}"
        )

    def _save(self, used: _Used, key: str, number: int) -> None:
        archive = self._place.store.archive(f"cache-{number}")
        try:
            self._pack_and_save(used, key, archive)
        finally:
            with suppress(OSError):
                archive.unlink()

    def _pack_and_save(self, used: _Used, key: str, archive: Path) -> None:
        place, began = self._place, time.monotonic()
        workspace = place.folder.workspace
        packed = pack(workspace, used.cache.paths, archive, uid=place.uid, limit=room_for(workspace), check=place.check)
        if not packed.files:
            place.stream.say(f"── cache {one_line(key)}: not saved, no file matches its paths")
        elif place.store.cache_put(archive, {"key": key, **described(packed)}, place.check):
            size = size_text(packed.size)
            place.stream.say(f"── cache {one_line(key)}: saved in {seconds_since(began)}, {size} compressed")
        else:
            place.stream.say(f"── cache {one_line(key)}: not saved, there is one already")

    def _warn(self, used: _Used, what: str, error: Exception) -> None:
        """Say that a cache failed. Without the machine's disk or memory the job cannot go on either."""
        if is_machine_failure(error):
            raise MachineFailed(f"a cache could not be {what}: {error}") from error
        key = one_line(used.key or used.cache.key)
        self._place.stream.say(f"── warning: cache {key} could not be {what}: {error}; the job goes on without it")
