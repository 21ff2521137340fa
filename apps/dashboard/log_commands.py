"""Lines of a log that are meant for the page: GitHub's workflow commands, and the lines of our agent.

Many tools print the commands when they see CI. Source: https://docs.github.com/actions/reference/workflow-commands
"""

import re
from typing import NamedTuple

_COMMAND = re.compile(rb"(?:::|##\[)(group|endgroup|error|warning|notice|debug)(?: ([^\n]*?))?(?:::|\])(.*)", re.DOTALL)
_AGENT = "── ".encode()
_TITLE = re.compile("── step [0-9]+/[0-9]+: (?!.* · .* after [0-9.]+ s$)".encode())
_ECHOED = re.compile("── ([$>] .*)".encode(), re.DOTALL)
_ESCAPES = ((b"%0D", b""), (b"%0A", b" "), (b"%25", b"%"))
_PLACE = re.compile(rb"(?:^|,)(file|line)=([^,]*)")


class LogCommand(NamedTuple):
    """What the page shows of a line: its text, and the class of its look; both as they are for any other line."""

    kind: str
    text: bytes


def log_command(text: bytes) -> LogCommand:
    """What to show of a line of a log."""
    if text.startswith(_AGENT):
        if echoed := _ECHOED.match(text):
            return LogCommand("command", echoed[1])
        return LogCommand("step" if _TITLE.match(text) else "agent", text)
    match = _COMMAND.match(text)
    if match is None:
        return LogCommand("", text)
    kind = match[1].decode()
    if kind in ("group", "endgroup"):
        return LogCommand(kind, match[3])
    message = match[3]
    for escape, meant in _ESCAPES:
        message = message.replace(escape, meant)
    place = dict(_PLACE.findall(match[2] or b""))
    where = b":".join(place[name] for name in (b"file", b"line") if name in place)
    return LogCommand(kind, kind.title().encode() + b": " + message + (b" (" + where + b")" if where else b""))
