"""Reading what became of the checks of a run, for its page."""

from dataclasses import dataclass

from apps.jobs.models import Run
from apps.sources.selectors.checks import checks_sent


@dataclass(frozen=True)
class RunChecks:
    """Where a run's checks are shown, how many are, and why one is not; `problem` is None if nothing was refused."""

    connection_id: str
    repository: str
    commit: str
    shown: int
    problem: str | None


def run_checks(run: Run) -> RunChecks | None:
    """The checks of the run; None if it has none. One consistent query for a run with checks, and else no call."""
    if not run.checks_key:
        return None
    place = (str(run.checks_of), str(run.checks_repository), str(run.checks_commit))
    sent = [check for check in checks_sent(*place).values() if check.run_id == run.run_id]
    problems = [str(check.problem) for check in sent if check.problem]
    shown = sum(check.provider_id is not None for check in sent)
    return RunChecks(*place, shown, problems[0] if problems else None)
