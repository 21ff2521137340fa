"""A job extends its own run: its steps hand pipeline files to the agent, which sends them to the control plane."""

from __future__ import annotations

from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.delivery import log_refusal
from agent.log import Log
from agent.log_text import counted, one_line
from agent.protocol import ControlPlane
from agent.refusals import ABOUT_ATTEMPT


class JobUploads:
    """Sends what the steps of one attempt upload."""

    def __init__(self, plane: ControlPlane, attempt: Attempt, stream: Log) -> None:
        self._plane = plane
        self._attempt = attempt
        self._stream = stream

    def send(self, text: str) -> tuple[int, str]:
        """Add the jobs of the file to the run. Returns the exit code and what the step prints."""
        if self._stream.added.masks.covers(text):
            return 1, "the file has the value of a secret, and it is stored: let the job that needs it name the secret"
        try:
            jobs = self._plane.upload(self._attempt.job, text, stop=self._attempt.ending)
        except GivenUp:
            return 1, "the job ends"
        except Refused as error:
            if error.code in ABOUT_ATTEMPT:
                log_refusal(self._attempt, error)
                self._attempt.request_end(ABANDON)
            return 1, "\n".join(error.field_messages() or [error.detail])
        self._stream.say(f"── {counted(len(jobs), 'job')} added to the run: {one_line(', '.join(jobs))[:500]}")
        return 0, f"added to the run: {', '.join(jobs)}"
