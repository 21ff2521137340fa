"""Where commands print a secret: to standard output, but on Lambda into the answer of the invocation.

Standard output of a function goes to CloudWatch Logs, which keep it. The answer of an invocation is kept nowhere.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from typing import Any, Protocol

from controlplane.lib.errors import ApplicationError
from controlplane.lib.stage_secrets import on_lambda

# The commands whose secret `zappa manage` takes from the answer.
PRINTING_COMMANDS = frozenset({"create_admin", "create_token", "enrolment_token"})

_answer: ContextVar[StringIO | None] = ContextVar("answer", default=None)


@contextmanager
def answer_captured(event: Mapping[str, Any]) -> Iterator[StringIO | None]:
    """Give the text that the answer to this event of Lambda must contain. None if no such command is called."""
    command = event.get("manage")
    if not isinstance(command, str) or command.split(" ")[0] not in PRINTING_COMMANDS:
        yield None
        return
    token = _answer.set(StringIO())
    try:
        yield _answer.get()
    finally:
        _answer.reset(token)


class Output(Protocol):
    """Where a text can be written."""

    def write(self, text: str, /) -> object: ...


def secret_output(standard_output: Output) -> Output:
    """Where to print a secret. Ask before the secret is made: it cannot be shown later.

    Raises ApplicationError when the only place is a log.
    """
    answer = _answer.get()
    if answer is not None:
        return answer
    if on_lambda():
        raise ApplicationError(
            "This command would print a secret into CloudWatch Logs. Type: zappa manage STAGE 'COMMAND …'. Or invoke "
            'the function with the payload {"manage": "COMMAND …"}: its answer has the secret.'
        )
    return standard_output
