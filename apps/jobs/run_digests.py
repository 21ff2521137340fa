"""Digests of the work of a run's jobs: equal if a job would do the same work on the same files again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from apps.jobs.run_graph import GraphJob

# What does not change the result of a job.
_ABOUT_THE_RUN = frozenset({"name", "needs", "priority", "max_parallel", "fail_fast", "group", "allow_failure"})


def with_digests(
    jobs: Sequence[GraphJob],
    *,
    works: Mapping[str, Any],
    facts: Mapping[str, Any],
    trees: Mapping[str, str],
) -> list[GraphJob]:
    """The jobs, with digests where they name their `inputs` and where all that they need has a digest.

    `works` has what each job of the file does, `facts` what all jobs of the run get (variables, parameters), `trees`
    the git tree of each input. A deployment has no digest. Each of the jobs comes after what it needs.
    """
    known: dict[str, str | None] = {}
    made = []
    for job in jobs:
        needed = [known.get(name) for name, _ in job.needs]
        known[job.name] = digest = _digest(job, works, facts, trees, needed)
        made.append(replace(job, digest=digest))
    return made


def _digest(
    job: GraphJob,
    works: Mapping[str, Any],
    facts: Mapping[str, Any],
    trees: Mapping[str, str],
    needed: Sequence[str | None],
) -> str | None:
    node = job.node
    if not node.inputs or node.environment or None in needed or not set(node.inputs) <= trees.keys():
        return None
    members = {name: value for name, value in node.as_dict().items() if name not in _ABOUT_THE_RUN}
    content = {
        "node": members,
        "work": works[job.job],
        "facts": dict(facts),
        "trees": {path: trees[path] for path in node.inputs},
        "needs": sorted(filter(None, needed)),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
