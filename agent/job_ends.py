"""How an attempt ends before its last step has completed, other than by a failure of the machine (agent.machine)."""

from __future__ import annotations

# In addition to the reasons of agent.attempt: a time limit has passed.
TIMED_OUT = "timed_out"


class JobFailed(Exception):
    """The job has failed. The message becomes the job's error message."""


class Interrupted(Exception):
    """The attempt must end early. `reason` is CANCEL, STOP, ABANDON or TIMED_OUT."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
