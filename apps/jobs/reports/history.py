"""The tests of several runs side by side: which take longest, and which are flaky."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from apps.jobs.reports.results import Case, Outcome

# So many tests are distinguished, so that memory is bounded. Others are left out.
MAX_TESTS = 100_000


@dataclass(frozen=True)
class Sample:
    """The tests of one report. `node` is the job's name in its run: a test may differ between the cells of a matrix.

    `commit` is None if it is not known.
    """

    run_id: str
    job_id: str
    node: str
    commit: str | None
    cases: Iterable[Case]


@dataclass
class CaseHistory:
    """One test over several runs. Durations are in seconds, over the times that it ran, and None if none is known.

    `flaky` is how often it both failed and passed on the same commit in the same job of the pipeline's file, within one
    report or over several attempts and runs. `failed_job_id` is the newest job in which it failed or was flaky.
    """

    group: str
    name: str
    runs: int = 0
    failed: int = 0
    flaky: int = 0
    seconds_mean: float | None = None
    seconds_max: float | None = None
    failed_job_id: str | None = None
    _timed: int = field(default=0, repr=False)
    _last_run: str = field(default="", repr=False)

    def add(self, sample: Sample, case: Case) -> None:
        """Count one result of the test. The samples of a run come one after another, the newest run first."""
        if case.outcome is Outcome.SKIPPED:
            return
        if sample.run_id != self._last_run:
            self.runs += 1
            self._last_run = sample.run_id
        if case.outcome is not Outcome.PASSED:
            self.failed += case.outcome is Outcome.FAILED
            self.failed_job_id = self.failed_job_id or sample.job_id
        if case.seconds is not None:
            self._timed += 1
            mean = self.seconds_mean or 0.0
            self.seconds_mean = mean + (case.seconds - mean) / self._timed
            self.seconds_max = max(self.seconds_max or 0.0, case.seconds)


class Histories:
    """Collects samples, the newest run first."""

    def __init__(self) -> None:
        self._tests: dict[tuple[str, str], int] = {}
        self._found: list[CaseHistory] = []
        # By what must not make a difference to a test: those that passed there, failed there, and were flaky there.
        self._seen: dict[tuple[str, str], tuple[set[int], set[int], list[int]]] = {}
        # Whether tests were left out.
        self.is_cut = False

    def add(self, sample: Sample) -> None:
        """Add the tests of a report."""
        passed, failed, flaky = self._seen.setdefault((sample.commit or sample.run_id, sample.node), (set(), set(), []))
        for case in sample.cases:
            place = self._place(case)
            if place is None:
                continue
            self._found[place].add(sample, case)
            if case.outcome is Outcome.PASSED:
                passed.add(place)
            elif case.outcome is Outcome.FAILED:
                failed.add(place)
            elif case.outcome is Outcome.FLAKY:
                flaky.append(place)

    def _place(self, case: Case) -> int | None:
        key = (case.group, case.name)
        place = self._tests.get(key)
        if place is None:
            if len(self._found) >= MAX_TESTS:
                self.is_cut = True
                return None
            place = self._tests[key] = len(self._found)
            self._found.append(CaseHistory(*key))
        return place

    def slowest(self, limit: int) -> list[CaseHistory]:
        """The tests with the longest mean duration, the longest first."""
        timed = [test for test in self._counted() if test.seconds_mean is not None]
        return sorted(timed, key=lambda test: (-(test.seconds_mean or 0.0), test.group, test.name))[:limit]

    def flakiest(self, limit: int) -> list[CaseHistory]:
        """The flaky tests, those that were so most often first."""
        found = [test for test in self._counted() if test.flaky]
        return sorted(found, key=lambda test: (-test.flaky, -test.failed, test.group, test.name))[:limit]

    def _counted(self) -> list[CaseHistory]:
        """All tests, with how often each was flaky, which is known once all samples are there."""
        times = Counter[int]()
        for passed, failed, flaky in self._seen.values():
            times.update(flaky)
            times.update((passed & failed) - set(flaky))
        for place, count in times.items():
            self._found[place].flaky = count
        return self._found
