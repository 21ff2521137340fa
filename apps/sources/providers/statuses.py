"""What providers share whose commits have statuses: a state, one line, and a link, under a name."""

from apps.sources.providers.interface import Check

# What GitHub takes; the others take more.
DESCRIPTION_CHARACTERS = 140

# The provider's id of a check that is shown as a commit status: a status has its name alone.
STATUS_ID = "status"


def check_state(check: Check) -> str:
    """``queued``, ``in_progress``, or how the check has ended."""
    return check.conclusion or "neutral" if check.status == "completed" else check.status


def check_line(check: Check) -> str:
    """The title of the check in one line."""
    line = " ".join((check.title or check_state(check).replace("_", " ").capitalize()).split())
    return line if len(line) <= DESCRIPTION_CHARACTERS else f"{line[: DESCRIPTION_CHARACTERS - 1]}…"
