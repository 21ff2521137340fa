"""The running attempts as a heartbeat reports them: complete, or shorter when there are very many steps.

The control plane stores a heartbeat's steps only up to 64 KiB and takes no request above 1 MiB. 64 jobs of 100 steps
with long names have several times that. A heartbeat that is refused would cost all their leases.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from typing import Any, Optional

from agent.protocol import StepState

LIMIT_BYTES = 60_000
# So many steps fit even if each has the longest name that there is.
_FITS_ALWAYS = 80
_NAME_CHARACTERS = 40

Step = dict[str, Any]
Steps = list[Step]


def running_summary(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of a heartbeat's `running` list, in the first of these forms that has at most LIMIT_BYTES as JSON.

    1. complete;
    2. ended steps have neither times nor exit codes;
    3. neighbouring steps that all wait, or all ended in the same way, are one entry;
    4. only the current step: the one that runs, or else the last that ended;
    5. no steps.
    """
    if sum(len(entry["steps"]) for entry in entries) <= _FITS_ALWAYS:
        return entries
    shortened = entries
    for form in _FORMS:
        shortened = [{**entry, "steps": form(entry["steps"])} for entry in entries]
        if len(json.dumps(shortened, ensure_ascii=False).encode(errors="replace")) <= LIMIT_BYTES:
            break
    return shortened


def _complete(steps: Steps) -> Steps:
    return steps


def _brief(steps: Steps) -> Steps:
    return [step if _runs(step) else {"name": step["name"], "state": step["state"]} for step in steps]


def _grouped(steps: Steps) -> Steps:
    grouped = []
    for state, group in groupby(steps, key=lambda step: step["state"]):
        members = list(group)
        if len(members) == 1 or state == StepState.RUNNING:
            grouped += _brief(members)
        else:
            first, last = (member["name"][:_NAME_CHARACTERS] for member in (members[0], members[-1]))
            grouped.append({"name": f"{first} … {last} ({len(members)} steps)", "state": state})
    return grouped


def _current(steps: Steps) -> Steps:
    begun = [step for step in steps if step["state"] not in (StepState.PENDING, StepState.SKIPPED)]
    return _brief([next((step for step in begun if _runs(step)), begun[-1])]) if begun else []


def _none(_: Steps) -> None:
    return None


def _runs(step: Step) -> bool:
    return bool(step["state"] == StepState.RUNNING)


_FORMS: tuple[Callable[[Steps], Optional[Steps]], ...] = (_complete, _brief, _grouped, _current, _none)
