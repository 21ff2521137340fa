"""Reading results of jobs that later runs may take."""

from collections.abc import Mapping, Sequence

from apps.jobs.models import JobResult
from controlplane.lib import clock


def results_find(pipeline: str, digests: Mapping[str, str], *, branches: Sequence[str]) -> dict[str, JobResult]:
    """The results for these names and digests: those of the first branch that has one.

    Consistent. It costs a call for each 100 keys.
    """
    keys = {(f"{pipeline}#{digest}", branch) for digest in digests.values() for branch in branches}
    now = clock.now()
    found = {(row.work, row.branch): row for row in JobResult.find_many(keys) if row.expires_at > now}
    results = {}
    for name, digest in digests.items():
        for branch in reversed(branches):
            if (f"{pipeline}#{digest}", branch) in found:
                results[name] = found[f"{pipeline}#{digest}", branch]
    return results
