"""Log lines made by Powertools. Its import takes some milliseconds: see `controlplane.observability.logs`."""

import logging

from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

# The attributes of a log record that make up message and exception.
_LOGGINGS_OWN: frozenset[str] = frozenset(logging.makeLogRecord({}).__dict__)


class JsonLines(LambdaPowertoolsFormatter):
    """Level, logger, message, time in UTC, and all further attributes of the record that are plain values.

    Other objects are left out: Django passes the whole request to its loggers, whose text contains the query.
    """

    def __init__(self) -> None:
        super().__init__(utc=True, use_rfc3339=True, serialize_stacktrace=False)

    def format(self, record: logging.LogRecord) -> str:
        for name, value in list(record.__dict__.items()):
            if name not in _LOGGINGS_OWN and not isinstance(value, str | int | float | bool | None):
                del record.__dict__[name]
        line: str = super().format(record)
        return line
