"""Whether an event of a repository starts a run, by what `on` of a pipeline file says."""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.pipeline.globs import glob_match
from controlplane.lib.frozen import frozen

PUSH, TAG, PULL_REQUEST = "push", "tag", "pull_request"

# Without `on`, and without `types`, these start runs.
_DEFAULT_TYPES = ("opened", "synchronize", "reopened")
_TAIL = "skip-checks:"
_SKIPS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")


@frozen
class Trigger:
    """An event of a repository. `kind` is push, tag or pull_request.

    `branch` is that of a push, `base` the branch that a pull request is for, and `action` what happened to it.
    `paths` are the changed ones; None if they are not known. `default_branch` is the pipeline's default ref.
    """

    kind: str
    branch: str | None = None
    tag: str | None = None
    base: str | None = None
    action: str | None = None
    paths: Sequence[str] | None = None
    default_branch: str | None = None


@frozen
class Verdict:
    """Whether a run starts: yes without a `reason` why not. With `asks_paths`, the changed paths decide that."""

    reason: str | None = None
    asks_paths: bool = False

    @property
    def starts(self) -> bool:
        """It starts, whatever the changed paths are."""
        return self.reason is None and not self.asks_paths


def trigger_decide(on: Mapping[str, Any], trigger: Trigger) -> Verdict:
    """Whether the event starts a run. Without `on`, pushes to the default branch and pull requests do."""
    if not on:
        return Verdict(_by_default(trigger))
    said = on.get(trigger.kind)
    if said is None:
        return Verdict(f"The pipeline's `on` has no `{trigger.kind}`.")
    match trigger.kind:
        case "push":
            reason = _unmatched(said.get("branches"), trigger.branch, "on.push.branches")
        case "tag":
            reason = _unmatched(said.get("names"), trigger.tag, "on.tag.names")
        case _:
            reason = _type_left_out(said.get("types") or _DEFAULT_TYPES, trigger.action)
            reason = reason or _unmatched(said.get("branches"), trigger.base, "on.pull_request.branches")
    if reason is not None or not said.get("paths"):
        return Verdict(reason)
    if trigger.paths is None:
        return Verdict(asks_paths=True)
    if any(glob_match(pattern, path) for path in trigger.paths for pattern in said["paths"]):
        return Verdict()
    return Verdict(f"No changed path matches `on.{trigger.kind}.paths`.")


def cancels_superseded(on: Mapping[str, Any], kind: str) -> bool:
    """Whether newer commits cancel the runs of older ones."""
    return bool((on.get(kind) or {}).get("cancel_superseded"))


def asks_to_skip(message: str | None) -> bool:
    """Whether a commit's message asks for no run: ``[skip ci]`` anywhere, or ``skip-checks: true`` in its last lines.

    In brackets, ``[ci skip]``, ``[no ci]``, ``[skip actions]`` and ``[actions skip]`` are the same.
    """
    text = (message or "").lower()
    if any(mark in text for mark in _SKIPS):
        return True
    tail = text.strip().rpartition("\n\n")[2].splitlines()
    return any(line.startswith(_TAIL) and line.removeprefix(_TAIL).strip() == "true" for line in tail)


def _by_default(trigger: Trigger) -> str | None:
    if trigger.kind == TAG:
        return "Without `on`, tags start no runs."
    if trigger.kind == PUSH and trigger.branch != trigger.default_branch:
        return "Without `on`, only pushes to the default branch and pull requests start runs."
    return _type_left_out(_DEFAULT_TYPES, trigger.action) if trigger.kind == PULL_REQUEST else None


def _type_left_out(types: Sequence[str], action: str | None) -> str | None:
    return None if action in types else f"`on.pull_request.types` does not have `{action}`."


def _unmatched(patterns: Sequence[str] | None, name: str | None, key: str) -> str | None:
    if not patterns or any(glob_match(pattern, name or "") for pattern in patterns):
        return None
    return f"{name} matches no pattern of `{key}`."
