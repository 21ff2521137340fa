"""Needs of jobs whose order is given by stages or by barriers, and not by a list for each."""

from __future__ import annotations

from collections.abc import Iterable

from apps.pipelines.importing.drafts import JobDraft
from apps.pipelines.importing.expressions import Condition, Outcome, both, condition_text

# Needs that a condition names one by one.
_MAX_NAMED = 2
_MAX_TAKEN = 50


def after_all(
    job: JobDraft, earlier: list[list[JobDraft]], may_be_left_out: set[str], *, whatever: bool = False
) -> None:
    """Let `job` need all jobs of the groups before it, which have their own needs already.

    A job that another one in its needs waits for is not named again, unless that one may be left out of a run.
    `whatever`: also if they failed.
    """
    covered: set[str] = set()
    by_name = {other.name: other for group in earlier for other in group}
    for group in reversed(earlier):
        for other in group:
            if other.name not in covered:
                job.needs.setdefault(other.name, "any" if whatever else "success")
        for other in group:
            _cover(other.name, by_name, covered, may_be_left_out)


def _cover(start: str, by_name: dict[str, JobDraft], covered: set[str], may_be_left_out: set[str]) -> None:
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in covered:
            covered.add(name)
            if name in by_name and name not in may_be_left_out:
                waiting += by_name[name].needs


def take_from(job: JobDraft, names: list[str], jobs: Iterable[JobDraft]) -> None:
    """Let `job` get the artifacts of other jobs, for which it waits already or from now on."""
    by_name = {other.name: other for other in jobs}
    before: set[str] = set()
    for need in job.needs:
        _cover(need, by_name, before, set())
    for name in names:
        if name not in (job.name, *job.take) and len(job.take) < _MAX_TAKEN:
            job.take.append(name)
            if name not in before:
                job.needs[name] = "any"


def go_on_without(job: JobDraft, may_be_left_out: set[str], condition: Outcome) -> Outcome:
    """Let `job` run although a need was left out of the run, but not after that one failed. Returns its condition."""
    optional = [name for name, result in job.needs.items() if result == "success" and name in may_be_left_out]
    for name in optional:
        job.needs[name] = "any"
    bad = ("failure", "cancelled")
    checks: list[Outcome] = [Condition(f"needs.{name}.result != '{result}'") for name in optional for result in bad]
    # For many of them, what holds for all needs is easier to read.
    short: list[Outcome] = [Condition("!failure()"), Condition("!cancelled()")]
    outcome = both(condition, *(checks if len(optional) <= _MAX_NAMED else short))
    job.condition = condition_text(outcome)
    return outcome
