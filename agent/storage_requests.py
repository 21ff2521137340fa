"""The requests of one attempt about artifacts and caches. The bytes go to the storage by `agent.transfer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from agent.archive import PART_BYTES, Packed
from agent.attempt import ABANDON, STOP, Attempt
from agent.client import GivenUp, Refused
from agent.delivery import log_refusal
from agent.job_ends import Interrupted
from agent.protocol import ControlPlane
from agent.refusals import ABOUT_ATTEMPT
from agent.transfer import Download, Upload

_UPLOAD_INCOMPLETE = "upload_incomplete"

T = TypeVar("T")


class StorageRefused(Exception):
    """The control plane refuses an artifact or a cache, for example above its quota. The message says why."""


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact of another job."""

    name: str
    node: str
    source: Download


@dataclass(frozen=True)
class FoundCache:
    """A cache that was found: with exactly the key, or else `is_exact` is false. `key` is its own."""

    key: str
    is_exact: bool
    source: Download


@dataclass(frozen=True)
class Opened:
    """An upload that has begun: its id, and the parts that are not stored yet."""

    upload_id: str
    uploads: list[Upload]


class StorageRequests:
    """All methods raise StorageRefused, and Interrupted if the attempt ends or belongs to this agent no more."""

    def __init__(self, plane: ControlPlane, attempt: Attempt) -> None:
        self._plane = plane
        self._attempt = attempt

    def artifact_open(self, report: dict[str, Any]) -> Opened:
        """Begin or go on to store the artifact that the report describes."""
        return self._ask("artifacts", report, lambda answer: _opened(answer, "artifact_id"))

    def artifact_complete(self, artifact_id: str) -> bool:
        """Returns False if parts are missing still."""
        return self._complete("artifact_complete", artifact_id)

    def artifacts_fetch(self, nodes: list[str]) -> list[StoredArtifact]:
        """The artifacts of these jobs of the run."""
        return self._ask(
            "artifacts_fetch",
            {"jobs": nodes},
            lambda answer: [
                StoredArtifact(str(one["name"]), str(one["node"]), _download(one)) for one in answer["artifacts"]
            ],
        )

    def cache_find(self, key: str, restore_keys: list[str]) -> Optional[FoundCache]:
        """The cache with the key, or else the newest under the longest of the restore keys."""

        def understand(answer: dict[str, Any]) -> Optional[FoundCache]:
            if answer["hit"] == "none":
                return None
            return FoundCache(str(answer["key"]), answer["hit"] == "exact", _download(answer))

        return self._ask("cache_restore", {"key": key, "restore_keys": restore_keys}, understand)

    def cache_open(self, report: dict[str, Any]) -> Optional[Opened]:
        """Begin or go on to store the cache that the report describes. None if there is one with its key already."""
        return self._ask("cache_save", report, lambda answer: None if answer["exists"] else _opened(answer, "cache_id"))

    def cache_complete(self, cache_id: str) -> bool:
        """Returns False if parts are missing still."""
        return self._complete("cache_complete", cache_id)

    def _complete(self, request: str, upload_id: str) -> bool:
        try:
            self._ask(request, {}, lambda _: None, upload_id=upload_id)
        except _Incomplete:
            return False
        return True

    def _ask(
        self, request: str, document: dict[str, Any], understand: Callable[[dict[str, Any]], T], **values: str
    ) -> T:
        attempt = self._attempt
        try:
            return self._plane.post(
                request, attempt.job, document, understand=understand, stop=attempt.ending, **values
            )
        except GivenUp:
            raise Interrupted(attempt.end_reason or STOP) from None
        except Refused as error:
            if error.code in ABOUT_ATTEMPT:
                log_refusal(attempt, error)
                attempt.request_end(ABANDON)
                raise Interrupted(ABANDON) from error
            if error.code == _UPLOAD_INCOMPLETE:
                raise _Incomplete from error
            raise StorageRefused("; ".join(error.field_messages()) or error.detail) from error


class _Incomplete(Exception):
    """Parts of an upload are missing."""


def described(packed: Packed) -> dict[str, Any]:
    """An archive, as reports of artifacts and caches have it."""
    last = packed.size - (len(packed.parts) - 1) * PART_BYTES
    sizes = [PART_BYTES] * (len(packed.parts) - 1) + [last]
    return {
        "size": packed.size,
        "sha256": packed.sha256,
        "parts": [{"size": size, "sha256": sha256} for size, sha256 in zip(sizes, packed.parts)],
        "media": packed.media,
    }


def _opened(answer: dict[str, Any], member: str) -> Opened:
    return Opened(
        str(answer[member]),
        [
            Upload(int(one["part"]), str(one["method"]), str(one["url"]), _headers(one["headers"]))
            for one in answer["uploads"]
        ],
    )


def _download(answer: dict[str, Any]) -> Download:
    return Download(int(answer["size"]), str(answer["sha256"]), str(answer["url"]), _headers(answer["headers"]))


def _headers(document: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in document.items()}
