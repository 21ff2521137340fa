"""The failed tests of a run: once each, however many of its jobs have them."""

from collections.abc import Iterable
from dataclasses import dataclass

from apps.jobs.selectors.reports import FailedTest, JobTests


@dataclass(frozen=True)
class SharedFailure:
    """A test that has failed in the same way in all of these jobs; `failed` is what the first of them reports."""

    failed: FailedTest
    jobs: list[JobTests]


def failures_shared(tests: Iterable[JobTests]) -> list[SharedFailure]:
    """The failures of all jobs, in the order of the jobs. Those of one name and message are one."""
    found: dict[tuple[str, str, str], SharedFailure] = {}
    for job in tests:
        for failed in job.failures:
            failure = failed.failure
            shared = found.setdefault((failure.group, failure.name, failure.message), SharedFailure(failed, []))
            if job not in shared.jobs[-1:]:
                shared.jobs.append(job)
    return list(found.values())
