"""A job shows other systems which one it is: its steps ask the agent for identity tokens, and the agent signs for that.

So steps have no key, and no step of another job gets a token of this one.
"""

from __future__ import annotations

from agent.attempt import ABANDON, Attempt
from agent.client import GivenUp, Refused
from agent.delivery import log_refusal
from agent.log import Log
from agent.log_text import one_line
from agent.protocol import ControlPlane
from agent.refusals import ABOUT_ATTEMPT, NOT_FOUND


class JobTokens:
    """Gets identity tokens for the steps of one attempt."""

    def __init__(self, plane: ControlPlane, attempt: Attempt, stream: Log) -> None:
        self._plane = plane
        self._attempt = attempt
        self._stream = stream

    def send(self, audience: str) -> tuple[int, str]:
        """Get a token for the audience. Returns the exit code and what the step prints: the token, or why not."""
        try:
            token = self._plane.post(
                "token",
                self._attempt.job,
                {"attempt": self._attempt.job.attempt, "audience": audience},
                understand=lambda answer: str(answer["token"]),
                stop=self._attempt.ending,
            )
        except GivenUp:
            return 1, "the job ends"
        except Refused as error:
            if error.code in ABOUT_ATTEMPT:
                log_refusal(self._attempt, error)
                self._attempt.request_end(ABANDON)
            if error.code == NOT_FOUND:
                return 1, "this version of the control plane issues no identity tokens"
            return 1, "\n".join(error.field_messages() or [error.detail or str(error)])
        # Without its signature a token is worth nothing, so that is masked alone, too.
        self._stream.added.masks.add([token, token.rpartition(".")[2]])
        self._stream.say(f"── identity token for {one_line(audience)[:255]}")
        return 0, token
