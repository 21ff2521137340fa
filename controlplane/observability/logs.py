"""Log lines: JSON for machines, or text for people, and never a secret.

Nothing of ours puts a secret into a line. What others write, the messages of exceptions above all, is looked through.
"""

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controlplane.lib.work import Work, current_work

if TYPE_CHECKING:
    from controlplane.observability.json_lines import JsonLines

_HIDDEN = "[hidden]"
# Values in the query of an address; API and enrolment tokens, and digests of 256 bits; session ids; keys in base64;
# addresses of people.
_SECRETS = re.compile(
    r"(?<=[?&])(?P<name>[\w.~%-]+)=[^&\s\"'<>\\]+"
    r"|(?<![\w-])(?:hc[a-z]_)?[A-Za-z0-9_-]{43}(?![\w-])"
    r"|(?<![\w-])[a-z0-9]{32}(?:\.[0-9a-z]{26})?(?![\w-])"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}="
    r"|[\w.%+-]+@[\w-]+(?:\.[\w-]+)+"
)


def secrets_hide(text: str) -> str:
    """The text without what has the form of a secret, or of a person's address."""
    return _SECRETS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return f"{found['name']}={_HIDDEN}" if found["name"] else _HIDDEN


def work_members() -> Mapping[str, str]:
    """What a line says of the work at hand. People are named by their ids alone."""
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
    """What the line at the end of a work says of its cost."""
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
    """A JSON object a line. Powertools, which makes it, is loaded for the first line: most processes write none."""

    _lines: "JsonLines | None" = None

    def format(self, record: logging.LogRecord) -> str:
        if self._lines is None:
            from controlplane.observability.json_lines import JsonLines

            self._lines = JsonLines()
        members: dict[str, Any] = dict(record.__dict__)
        # What the line says for itself counts more than what the work is about.
        return secrets_hide(self._lines.format(logging.makeLogRecord({**work_members(), **members})))
