"""Makes sure that a draft becomes a valid pipeline file: what our own reader refuses is taken out and noted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from apps.pipelines.importing.drafts import JobDraft, PipelineDraft
from apps.pipelines.importing.remarks import ImportRefused, Remarks, quoted
from apps.pipelines.importing.scripts import by_hand_step

# Each round takes out all that the reader finds; what it could not see before may come to light then.
_ROUNDS = 8
_STEP = re.compile(r"steps\[(\d+)\]")
# The attributes of a job that a key of the file is made of.
_ATTRIBUTES = {"if": ("condition",), "artifacts": ("artifacts", "take", "expire_in"), "steps": ()}

Problem = dict[str, Any]


def draft_repair(
    draft: PipelineDraft, remarks: Remarks, write: Callable[[], str], problems_find: Callable[[str], list[Problem]]
) -> str:
    """The text of a valid file. Raises ImportRefused if the draft cannot be made valid."""
    problems: list[Problem] = []
    for _ in range(_ROUNDS):
        text = write()
        problems = problems_find(text)
        if not problems:
            return text
        for problem in problems:
            _repair(draft, remarks, str(problem["field"]), str(problem["message"]))
    first = problems[0]
    raise ImportRefused(f"The result would be no valid pipeline file: {first['field']}: {first['message']}.")


def _repair(draft: PipelineDraft, remarks: Remarks, path: str, message: str) -> None:
    top, _, rest = path.partition(".")
    if top == "jobs":
        name, _, key = rest.partition(".")
        job = next((job for job in draft.jobs if job.name == name), None)
        if job is None:
            raise ImportRefused(f"The result would be no valid pipeline file: {path}: {message}.")
        _repair_job(job, remarks, key, message)
        return
    part = re.split(r"[.\[]", rest)[0] if rest else ""
    found = getattr(draft, top, None)
    if top in ("env", "parameters", "on") and isinstance(found, dict) and part in found:
        del found[part]
    elif top in ("on", "concurrency", "env") and found:
        setattr(draft, top, {})
    else:
        raise ImportRefused(f"The result would be no valid pipeline file: {quoted(path)}: {quoted(message, 200)}.")
    remarks.add(
        1, quoted(path), f"was left out, since it would be no valid part of a pipeline file: {quoted(message, 200)}"
    )


def _repair_job(job: JobDraft, remarks: Remarks, path: str, message: str) -> None:
    """Take out the part of a job, and let the job stop until a person has written that part."""
    reason = f"{quoted(path)} was left out, since it would be no valid part of a job: {quoted(message, 200)}"
    remarks.add(job.line, f"jobs.{job.name}", reason)
    step = _STEP.match(path)
    if step and int(step[1]) < len(job.steps):
        old = job.steps[int(step[1])]
        if old.by_hand and "${{" not in old.run:
            raise ImportRefused(f"The result would be no valid pipeline file: {quoted(path)}: {quoted(message, 200)}.")
        job.steps[int(step[1])] = by_hand_step(old.name, reason, old.run)
        return
    key, _, rest = path.partition(".")
    key = key.partition("[")[0]
    if key == "env" and rest in job.env:
        del job.env[rest]
    else:
        default = JobDraft(job.name)
        for attribute in _ATTRIBUTES.get(key, (key,)):
            if not hasattr(default, attribute) or attribute in ("name", "steps", "line"):
                raise ImportRefused(
                    f"The result would be no valid pipeline file: {quoted(path)}: {quoted(message, 200)}."
                )
            setattr(job, attribute, getattr(default, attribute))
    if len(job.steps) < 100:
        job.steps.insert(0, by_hand_step(key, reason))
    job.comments.append(reason)
