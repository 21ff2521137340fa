"""What an attempt exchanges with other jobs, in order: artifacts and caches before the steps, and all that follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from agent.exchange import Exchange
from agent.job_archives import Place
from agent.job_artifacts import JobArtifacts
from agent.job_caches import JobCaches
from agent.job_ends import JobFailed
from agent.job_outputs import OutputsInvalid, outputs_read


class JobExchange:
    """All methods raise JobFailed, MachineFailed, Interrupted and OSError."""

    def __init__(self, place: Place, exchange: Exchange) -> None:
        self._place = place
        self._exchange = exchange
        self._artifacts = JobArtifacts(place)
        self._caches = JobCaches(place, exchange.caches)
        # What the steps have written so far, as read after their end.
        self.outputs: dict[str, str] = {}

    def before_steps(self) -> None:
        """Take the artifacts of other jobs and restore the caches."""
        self._artifacts.take(self._exchange.take)
        self._caches.restore()

    def after_success(self, keep: Callable[[Optional[dict[str, Any]]], None]) -> None:
        """Read the outputs, store the artifacts and save the caches.

        `keep` is as for `JobArtifacts.store`. It gets None when the artifacts are stored, too.
        """
        self._read_outputs()
        if self._exchange.artifacts is not None:
            self._artifacts.store(self._exchange.artifacts, keep)
        if self._exchange.caches:
            keep(None)
        self._caches.save()

    def after_failure(self) -> None:
        """Keep what a failed job has left: what its tests have written is of use then most of all."""
        try:
            self._read_outputs()
        except JobFailed as error:
            self._place.stream.say(f"── {error}")
        if self._exchange.artifacts is not None:
            self._artifacts.store_after_failure(self._exchange.artifacts)

    def _read_outputs(self) -> None:
        if not self._exchange.outputs:
            return
        try:
            self.outputs, others = outputs_read(
                self._place.folder.outputs, self._exchange.outputs, self._place.stream.added.masks
            )
        except OutputsInvalid as error:
            raise JobFailed(f"The file $HYBRID_CI_OUTPUT is not valid: {error}.") from error
        for name in others:
            self._place.stream.say(f"── output {name} is ignored: the job does not declare it under outputs")
        for name in self._exchange.outputs:
            if name not in self.outputs:
                self._place.stream.say(f"── output {name} was not written")
