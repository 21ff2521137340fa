"""Log lines as Powertools writes them. Loading this takes some milliseconds: see `controlplane.observability.logs`."""

import logging

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

# Of a record, what is made into message and exception.
_LOGGINGS_OWN: frozenset[str] = frozenset(logging.makeLogRecord({}).__dict__)


class JsonLines(LambdaPowertoolsFormatter):
    """Level, place, message, time in UTC, and what else a record holds that is a plain value.

    Other objects stay out: Django hands its loggers the whole request, whose text has the query in it.
    """

    def __init__(self) -> None:
        super().__init__(utc=True, use_rfc3339=True, serialize_stacktrace=False)

    def format(self, record: logging.LogRecord) -> str:
        for name, value in list(record.__dict__.items()):
            if name not in _LOGGINGS_OWN and not isinstance(value, str | int | float | bool | None):
                del record.__dict__[name]
        line: str = super().format(record)
        return line
