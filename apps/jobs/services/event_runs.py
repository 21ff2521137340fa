"""Runs of events once their pipeline file is known: whether it asks for the run, and which older runs that ends.

A pipeline whose file is in the repository says only there what starts its runs. So its first job reads the file of the
event's own commit; if `on` there asks for no run, the job ends, and the run with it, before any step.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from apps.jobs.models import HEADS, RUN, Job, Run, RunHeads, heads_key
from apps.jobs.selectors.job_origin import FORK_DEPLOYS, is_kept_apart
from apps.jobs.selectors.runs import run_get
from apps.jobs.services.advance import run_advance
from apps.jobs.services.run_endings import job_end, run_give_way
from apps.jobs.states import RUN_FINAL
from apps.pipelines.definitions import MAIN_JOB, Definition, Pipeline, Step
from apps.pipelines.definitions.triggers import Trigger, cancels_superseded, trigger_decide
from apps.pipelines.parsing import pipeline_wants
from controlplane.lib.errors import InvalidInput, NotFound
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import targets_required
from controlplane.nosql.connection import ConditionFailed

SUPERSEDED = "newer commits came, and its pipeline cancels the runs of older ones"

# More entries than these are cut to the newest half when another one is added.
_HEADS_KEPT = 40
_MEMBERS = ("branch", "tag", "base", "action", "paths", "default_branch")


@frozen
class EventAnswer:
    """What is to be known before the first job of an event's run goes on, or why the run has nothing to do.

    Both are None if it goes on.
    """

    wants: Mapping[str, Any] | None = None
    nothing: str | None = None


def event_answer(
    job: Job, pipeline: Pipeline, *, answers_wants: bool, changed_paths: Sequence[str] | None
) -> EventAnswer:
    """Whether the first job of an event's run goes on, by the pipeline file that it has read.

    If it does, older runs are cancelled, where the pipeline says so. Once an attempt was let go or was stopped, the
    same holds for those after it. Who runs the job again wants it to build. Raises InvalidInput for the only job of a
    fork that asks for an agent with a deployment target.
    """
    run = run_get(str(job.run_id))
    _fork_labels_require(run, job, pipeline)
    if job.retry_of:
        return EventAnswer()
    if run.nothing_to_do:
        return EventAnswer(nothing=str(run.nothing_to_do))
    said: dict[str, Any] = {"kind": str(job.event), **dict(run.trigger or {})}
    trigger = trigger_from(said)
    if trigger.paths is None and answers_wants:
        trigger = trigger_from({**said, "paths": changed_paths})
    if not said.get("decided") and not job.defined_attempt:
        verdict = trigger_decide(pipeline.on, trigger)
        if verdict.reason is not None:
            return EventAnswer(nothing=verdict.reason)
        if verdict.asks_paths and not answers_wants:
            # What the jobs ask about the repository is asked in the same breath.
            return EventAnswer(wants={**pipeline_wants(pipeline), "changes": True, **changes_since(said)})
    if cancels_superseded(pipeline.on, trigger.kind):
        superseded_cancel(run)
    return EventAnswer()


def _fork_labels_require(run: Run, job: Job, pipeline: Pipeline) -> None:
    if pipeline.is_graph or not is_kept_apart(run):
        return
    if targets_required({*pipeline.jobs[MAIN_JOB].labels} - {*job.labels}):
        raise InvalidInput(f"The job's labels ask for a deployment target: {FORK_DEPLOYS}.")


def trigger_from(said: Mapping[str, Any]) -> Trigger:
    """What decides about the run, as `Run.trigger` has it."""
    return Trigger(**{name: said.get(name) for name in _MEMBERS}, kind=str(said["kind"]))


def changes_since(said: Mapping[str, Any]) -> dict[str, str]:
    """Since when the paths of an event count as changed: the commit before the push, or the base of a pull request."""
    if said.get("base"):
        return {"branch": str(said["base"])}
    before = said.get("before") if not said.get("is_forced") else None
    return {"since": str(before)} if before else {"branch": str(said.get("default_branch") or "")}


def nothing_definition(job: Job, reason: str) -> Mapping[str, Any]:
    """What the first job does instead of the pipeline's steps. Any agent can run it."""
    quoted = reason.replace("'", "'\\''")
    return Definition(steps=[Step(name="nothing to do", run=f"echo '{quoted}'")], labels=list(job.labels)).as_dict()


def superseded_cancel(run: Run) -> None:
    """Cancel the older runs of the branch or pull request; or this one, if a run of newer commits goes on already.

    A newer run that is not known to go on decides nothing: its file may ask for nothing. Once it does go on, it calls
    this itself. Each run is marked before it looks for others, so that of two at once one sees the other. Repeating
    it changes nothing.
    """
    with suppress(ConditionFailed):
        Run(run.run_id, RUN).update(actions=[Run.supersedes.set(True)], condition=Run.pipeline.exists())
    heads = RunHeads.find(heads_key(str(run.pipeline), str(run.git_ref)), HEADS)
    entries = [Head(*str(entry).split(" ", 3)) for entry in heads.entries] if heads is not None else []
    own = next((entry for entry in entries if entry.run_id == run.run_id), None)
    if heads is None or own is None:
        return
    newer = _newer(entries, own)
    going_on = Run.find_many((entry.run_id, RUN) for entry in newer)
    if any(other.supersedes for other in going_on):
        run_stop(str(run.run_id), SUPERSEDED)
    else:
        for entry in entries:
            if entry not in newer and entry != own:
                run_stop(entry.run_id, SUPERSEDED)


def heads_cut(*, pipeline: str, git_ref: str) -> None:
    """Keep the newest runs of the branch or pull request only. One read, and seldom a write."""
    heads = RunHeads.find(heads_key(pipeline, git_ref), HEADS)
    if heads is None or len(heads.entries) <= _HEADS_KEPT:
        return
    # Another process may have added one: the next event cuts, then.
    with suppress(ConditionFailed):
        heads.update(
            actions=[RunHeads.entries.set(list(heads.entries)[-_HEADS_KEPT // 2 :])],
            condition=RunHeads.entries == heads.entries,
        )


class Head(NamedTuple):
    """A run of a branch or pull request: its commits before and after, and the time by the provider, or ``-``."""

    run_id: str
    before: str
    after: str
    at: str


def _newer(entries: Sequence[Head], own: Head) -> list[Head]:
    """Those of the entries, in the order in which they came, that are newer than one of them.

    A push that begins where another one ends is newer, directly or through others, in whatever order they came. Where
    that decides nothing, as between forced pushes, the later one by the provider's clock is, or the one that came last.
    """
    after, before = _chain(entries, {own.after}, "before", "after"), _chain(entries, {own.before}, "after", "before")
    place = entries.index(own)
    found = []
    for number, entry in enumerate(entries):
        if (entry in after) != (entry in before):
            is_newer = entry in after
        elif "-" not in (entry.at, own.at) and entry.at != own.at:
            is_newer = entry.at > own.at
        else:
            is_newer = number > place
        if is_newer and entry != own:
            found.append(entry)
    return found


def _chain(entries: Sequence[Head], commits: set[str], begin: str, end: str) -> set[Head]:
    """The entries that follow from these commits: each begins where one before it ends."""
    found: set[Head] = set()
    while True:
        more = {entry for entry in entries if getattr(entry, begin) in commits - {"-"}} - found
        if not more:
            return found
        found |= more
        commits = commits | {getattr(entry, end) for entry in more}


def run_stop(run_id: str, reason: str) -> None:
    """Cancel the run if it has not ended: what waits at once, and what runs by its agents.

    One that has nothing to do ends by itself.
    """
    run = Run.find(run_id, RUN)
    if run is None or run.status in RUN_FINAL or run.nothing_to_do:
        return
    if not run.jobs:
        job_end(str(run.job_id), reason)
        return
    run_give_way(run_id)
    with suppress(NotFound):
        run_advance(run_id=run_id)
