"""What artifacts and caches have in common: the parts of an attempt that they need, and what a failure means."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from agent.archive import ArchiveInvalid
from agent.job_commands import JobCommands
from agent.job_folder import JobFolder
from agent.log import Log
from agent.machine import is_machine_failure
from agent.storage_requests import StorageRefused
from agent.store import Store
from agent.transfer import TransferFailed
from agent.workspace_files import FilesUnusable

# What storing and fetching raise that is about the archive, and not the end of the attempt.
FAILURES = (StorageRefused, TransferFailed, ArchiveInvalid, FilesUnusable, OSError)


@dataclass(frozen=True)
class Place:
    """Where an attempt exchanges archives: its folder, its store, and where it says so."""

    store: Store
    commands: JobCommands
    stream: Log
    folder: JobFolder

    def check(self) -> None:
        """Raises Interrupted if the attempt must end."""
        self.commands.raise_if_over(math.inf)

    @property
    def uid(self) -> int:
        """The user that the job's files belong to."""
        return os.geteuid() if self.folder.owner is None else self.folder.owner.uid


def is_of_machine(failure: Exception) -> bool:
    """Whether the failure is that of this machine's disk or network."""
    return is_machine_failure(failure) or (isinstance(failure, TransferFailed) and failure.is_network)
