"""The artifacts of one attempt: those of the jobs that it needs, before its steps, and its own, after them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.archive import Packed, pack, room_for, unpack
from agent.exchange import Artifacts
from agent.job_archives import FAILURES, Place, is_of_machine
from agent.job_ends import JobFailed
from agent.log_text import counted, one_line, seconds_since, size_text
from agent.machine import MachineFailed
from agent.storage_requests import StoredArtifact, described

# The name of a job's archive.
NAME = "artifacts"


class JobArtifacts:
    """All methods raise JobFailed, MachineFailed and Interrupted."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def take(self, nodes: list[str]) -> None:
        """Bring the artifacts of these jobs into the workspace."""
        if not nodes:
            return
        try:
            stored = self._place.store.artifacts(nodes)
            for one in stored:
                self._take(one)
        except FAILURES as error:
            raise _failure(
                f"The artifacts of {one_line(', '.join(nodes))[:200]} could not be fetched", error
            ) from error
        for node in nodes:
            if all(one.node != node for one in stored):
                self._place.stream.say(f"── artifacts of {one_line(node)}: it has stored none")

    def store(self, artifacts: Artifacts, keep: Callable[[dict[str, Any]], None]) -> None:
        """Store what the job's patterns match. Before it is sent, `keep` gets the report about it."""
        try:
            archive = self._place.store.archive(NAME)
            try:
                self._store(artifacts, archive, keep)
            finally:
                with suppress(OSError):
                    archive.unlink()
        except FAILURES as error:
            raise not_stored(error) from error

    def store_after_failure(self, artifacts: Artifacts) -> None:
        """Store what there is of a job that has failed. That this fails is only said in its log."""
        try:
            self.store(artifacts, lambda _: None)
        except (JobFailed, MachineFailed) as error:
            self._place.stream.say(f"── {error}")

    def _store(self, artifacts: Artifacts, archive: Path, keep: Callable[[dict[str, Any]], None]) -> None:
        began = time.monotonic()
        report = artifact_report(self._pack(artifacts, archive), artifacts)
        keep(report)
        self._place.store.artifact_put(archive, report, self._place.check)
        self._place.stream.say(stored_line(report, seconds_since(began)))

    def _take(self, one: StoredArtifact) -> None:
        began = time.monotonic()
        with self._place.store.fetched(one, self._place.check) as archive:
            workspace = self._place.folder.workspace
            unpacked = unpack(archive, workspace, limit=room_for(workspace), check=self._place.check)
        content = f"{counted(unpacked.files, 'file')}, {size_text(unpacked.content_bytes)}"
        self._place.stream.say(f"── artifacts of {one_line(one.node)}: {content}, fetched in {seconds_since(began)}")

    def _pack(self, artifacts: Artifacts, archive: Path) -> Packed:
        place = self._place
        workspace = place.folder.workspace
        packed = pack(workspace, artifacts.paths, archive, uid=place.uid, limit=room_for(workspace), check=place.check)
        if not packed.files:
            raise JobFailed(
                f"The artifacts could not be stored: no file matches {one_line(', '.join(artifacts.paths))[:500]}. "
                "Correct the job's artifacts: paths, or make a step write the files."
            )
        for pattern in packed.unused:
            place.stream.say(f"── artifacts: nothing matches {one_line(pattern)}")
        if packed.left_out:
            place.stream.say(f"── artifacts: {packed.left_out:,} sockets, pipes and devices are left out")
        return packed


def artifact_report(packed: Packed, artifacts: Artifacts) -> dict[str, Any]:
    """The artifact, as the control plane asks for it."""
    return {
        "name": NAME,
        **described(packed),
        "files": [{"path": one.path, "size": one.size, "mode": one.mode} for one in packed.listing],
        "files_total": packed.files,
        **({} if artifacts.expire_in is None else {"expire_in": artifacts.expire_in}),
    }


def stored_line(report: dict[str, Any], took: str) -> str:
    """The line of the log about an artifact that is stored."""
    files, size = counted(report["files_total"], "file"), size_text(report["size"])
    return f"── artifacts: {files} stored in {took}, {size} compressed"


def not_stored(error: Exception) -> Exception:
    """What it means that the artifacts could not be stored: the failure of the job or of the machine."""
    return _failure("The artifacts could not be stored", error)


def _failure(what: str, error: Exception) -> Exception:
    message = f"{what}: {error}".rstrip(".")
    if is_of_machine(error):
        return MachineFailed(message)
    return JobFailed(f"{message}.")
