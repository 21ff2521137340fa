"""What the steps of a job hand to later jobs: lines ``NAME=value`` in the file that $HYBRID_CI_OUTPUT names."""

from __future__ import annotations

import re
from pathlib import Path

from agent.files import read_regular
from agent.log_text import one_line
from agent.masking import Masks

VARIABLE = "HYBRID_CI_OUTPUT"
# Of the file, in the folder `exchange` of the job.
NAME = "output"
MAX_OUTPUTS = 32
MAX_VALUE_BYTES = 4096
MAX_BYTES = 16 * 1024
# A step may write a name again and again; its last value counts.
_MAX_FILE_BYTES = 1024 * 1024
_HAS_SECRET = "has the value of a secret, and outputs are stored; let the job that needs it name the secret"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


class OutputsInvalid(Exception):
    """The file is not as it must be. The message names the line and what is wrong."""


def outputs_read(path: Path, declared: list[str], masks: Masks) -> tuple[dict[str, str], list[str]]:
    """The outputs in the file, and the names in it that the job does not declare. Steps may have put anything there.

    Outputs are stored and shown, so they may have no value of `masks`.

    Raises OutputsInvalid, and OSError if the file cannot be read.
    """
    values: dict[str, str] = {}
    others: dict[str, None] = {}
    text = _text(path)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, value = _entry(number, line, masks)
        if name in declared:
            values[name] = value
        elif len(others) < MAX_OUTPUTS:
            others[name] = None
    if masks.covers(text):
        raise OutputsInvalid(f"it {_HAS_SECRET}")
    if len(values) > MAX_OUTPUTS:
        raise OutputsInvalid(f"a job must have at most {MAX_OUTPUTS} outputs")
    if sum(len(name) + len(value.encode()) for name, value in values.items()) > MAX_BYTES:
        raise OutputsInvalid(f"all outputs together must have at most {MAX_BYTES:,} bytes")
    return values, list(others)


def _entry(number: int, line: str, masks: Masks) -> tuple[str, str]:
    """The name and the value in a line. Raises OutputsInvalid."""
    if masks.covers(line):
        raise OutputsInvalid(f"line {number} {_HAS_SECRET}")
    name, separator, value = line.partition("=")
    if not separator or not _NAME.fullmatch(name):
        raise OutputsInvalid(f"line {number} must be NAME=value, not {one_line(line[:80])!r}")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise OutputsInvalid(f"the value of {name} must have at most {MAX_VALUE_BYTES:,} bytes")
    return name, value


def _text(path: Path) -> str:
    """The text of the file, empty if there is none. A link is not followed, and a pipe does not block."""
    try:
        data = read_regular(path, _MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OutputsInvalid(f"the agent cannot read the file ({error.strerror})") from error
    if data is None:
        raise OutputsInvalid("it must be a file")
    if len(data) > _MAX_FILE_BYTES:
        raise OutputsInvalid(f"it must have at most {_MAX_FILE_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise OutputsInvalid("it must be UTF-8") from error
    if "\0" in text:
        raise OutputsInvalid("it must not contain null characters")
    return text.replace("\r\n", "\n")
