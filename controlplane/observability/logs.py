"""Log lines: JSON for machines, or text for people, and never a secret.

Our own code logs no secret. Texts from elsewhere, above all the messages of exceptions, are searched for secrets.
"""

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controlplane.lib.work import Work, current_work

if TYPE_CHECKING:
    from controlplane.observability.json_lines import JsonLines

_HIDDEN = "[hidden]"
# The condition before an e-mail address keeps the search linear in the text, which may be a stranger's.
# Values in the query of a URL; API tokens, enrolment tokens and invitations, and digests of 256 bits; session ids; keys
# in base64; e-mail addresses.
_SECRETS = (
    r"(?<=[?&])(?P<name>[\w.~%-]+)=[^&\s\"'<>\\]+"
    r"|(?<![\w-])(?:hc[a-z]_[A-Za-z0-9_-]{43,}|[A-Za-z0-9_-]{43})(?![\w-])"
    r"|(?<![\w-])[a-z0-9]{32}(?:\.[0-9a-z]{26})?(?![\w-])"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}="
    r"|(?<![\w.%+-])[\w.%+-]+@[\w-]+(?:\.[\w-]+)+"
)


def secrets_hide(text: str) -> str:
    """The text without anything that has the form of a secret, or of an e-mail address."""
    # Compiled by the first line, because most processes write none.
    return re.sub(_SECRETS, _hide, text)


def _hide(found: re.Match[str]) -> str:
    return f"{found['name']}={_HIDDEN}" if found["name"] else _HIDDEN


def work_members() -> Mapping[str, str]:
    """What a line contains about the current work. Users are identified by their ids only."""
    work = current_work()
    if work is None:
        return {}
    actor = work.actor
    members = {
        "request_id": work.request_id,
        "route": work.route,
        "actor_kind": actor.kind if actor else None,
        "actor_id": actor.id if actor else None,
        "job_id": work.job_id,
        "agent_id": work.agent_id,
    }
    return {name: value for name, value in members.items() if value}


def work_costs(work: Work, milliseconds: float) -> dict[str, float]:
    """The costs that the line at the end of a work contains."""
    return {
        "milliseconds": milliseconds,
        "dynamodb_calls": work.dynamodb_calls,
        "read_units": work.read_units,
        "write_units": work.write_units,
    }


class TextFormatter(logging.Formatter):
    """A line for people, with the request's id at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — logging's name
        work = current_work()
        line = super().formatMessage(record)
        return f"{line} (request {work.request_id})" if work else line

    def format(self, record: logging.LogRecord) -> str:
        return secrets_hide(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line. Powertools is imported with the first line, because most processes write none."""

    _lines: "JsonLines | None" = None

    def format(self, record: logging.LogRecord) -> str:
        if self._lines is None:
            from controlplane.observability.json_lines import JsonLines

            self._lines = JsonLines()
        members: dict[str, Any] = dict(record.__dict__)
        # The line's own values override those of the work.
        return secrets_hide(self._lines.format(logging.makeLogRecord({**work_members(), **members})))
