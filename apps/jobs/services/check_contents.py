"""What the checks of a run say: names, states, and texts in Markdown. Nothing here reads or writes.

A run has one check for the whole of it and one for each job of its graph. The texts come from repositories and from
the programs that jobs run, so they are shown as code, which has no markup of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.jobs.models import Job, Run, RunNode
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.reports import FailedTest, JobTests
from apps.jobs.states import FINAL, RUN_FINAL, RunStatus, Status, StepState
from apps.sources.services.checks import Annotation, Check
from controlplane.lib import clock
from controlplane.lib.frozen import frozen

# Of names, at GitHub and GitLab.
_NAME_CHARACTERS = 255
# How many jobs, steps and tests a summary names.
_NAMED = 50
_MESSAGE_CHARACTERS = 2_000
# So long a file is looked for in what a test runner has printed.
_DETAILS_CHARACTERS = 4_000

_CONCLUSIONS = {
    Status.COMPLETED: "success",
    Status.FAILED: "failure",
    Status.TIMED_OUT: "timed_out",
    Status.CANCELLED: "cancelled",
    Status.SKIPPED: "skipped",
}
_RUN_CONCLUSIONS = {
    RunStatus.COMPLETED: "success",
    RunStatus.FAILED: "failure",
    RunStatus.CANCELLED: "cancelled",
}
_WORDS = {
    Status.COMPLETED: "passed",
    Status.FAILED: "failed",
    Status.TIMED_OUT: "timed out",
    Status.CANCELLED: "cancelled",
    Status.SKIPPED: "skipped",
}

# ``path/to/file.py:12``, as most test runners print it: in a repository, so without a leading slash or a drive.
_PLACE = re.compile(r"(?<![\w/.\\:-])(?:\./)?((?:[\w.+-]+/)*[\w.+-]+\.[A-Za-z]\w{0,9}):(\d{1,6})\b", re.ASCII)
_OTHERS_CODE = re.compile(r"(^|/)(node_modules|site-packages|dist-packages|vendor|\.venv|venv|lib/python[\d.]+)/")


@frozen
class CheckState:
    """The state of a check: `status` as providers know it, and `conclusion`, which is None before its end.

    `phase` divides what is queued further.
    """

    status: str
    conclusion: str | None = None
    phase: str = ""

    @property
    def word(self) -> str:
        """The state in one word."""
        return f"{self.conclusion or self.status}{self.phase}"


QUEUED, RUNNING = CheckState("queued"), CheckState("in_progress")
# A deployment waits for the gates of its environment, such as an approval.
AT_GATES = CheckState("queued", phase=" at gates")


def job_state(status: Status, *, allow_failure: bool = False, environment: str | None = None) -> CheckState:
    """The state of the check of a job. A failure that the pipeline file allows holds nothing up.

    `environment` is that of the job once it is a deployment.
    """
    if status == Status.RUNNING:
        return RUNNING
    if status == Status.WAITING and environment:
        return AT_GATES
    if status not in FINAL:
        return QUEUED
    if allow_failure and status in (Status.FAILED, Status.TIMED_OUT):
        return CheckState("completed", "neutral")
    return CheckState("completed", _CONCLUSIONS[status])


def run_state(run: Run, only: Job | None) -> CheckState:
    """The state of the check of a whole run. `only` is its only job; None for a run with a graph."""
    if only is not None:
        # Its pipeline file asks for no run of this event.
        nothing = run.nothing_to_do and only.status == Status.COMPLETED
        return job_state(Status.SKIPPED if nothing else Status(only.status))
    status = RunStatus(run.status)
    if status in RUN_FINAL:
        return CheckState("completed", _RUN_CONCLUSIONS[status])
    return RUNNING if status == RunStatus.RUNNING else QUEUED


def check_name(run: Run, job: str | None = None) -> str:
    """The name of a check: of the run, or of its job of this name. Branch protection asks for it, so it never changes.

    A commit may have a run for its branch and one for a pull request, which may end otherwise.
    """
    name = f"hybrid-ci/{run.pipeline}" + (f"/{job}" if job else "")
    ending = " (pull request)" if run.pull_request else ""
    room = _NAME_CHARACTERS - len(ending)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + ending


def job_check(
    run: Run, job: Job, *, state: CheckState, reason: str | None, tests: JobTests | None, base_url: str
) -> Check:
    """The check of one job of a run's graph. `reason` is why it was skipped or cancelled, `tests` its reports."""
    return _check(
        run,
        name=check_name(run, str(job.node)),
        external_id=str(job.job_id),
        state=state,
        title=job_title(job, reason),
        summary=job_summary(job, tests),
        # People approve on the page of the deployment, whose id is that of its job.
        details_url=f"{base_url}/dashboard/{'deployments' if state is AT_GATES else 'jobs'}/{job.job_id}"
        if base_url
        else None,
        annotations=annotations(tests.failures) if tests else (),
        started_at=job.started_at,
        completed_at=job.completed_at,
    )


def run_check(
    run: Run,
    *,
    state: CheckState,
    only: Job | None,
    jobs: Sequence[GraphJob],
    nodes: Mapping[str, RunNode],
    tests: JobTests | None,
    base_url: str,
) -> Check:
    """The check of a whole run: of its only job, or of the graph `jobs` with their `nodes`."""
    if only is not None:
        # While it runs, it may yet turn out to be the first of several.
        title = "Running" if state is RUNNING else job_title(only, None)
        if state.conclusion == "skipped":
            title = f"Skipped: {run.nothing_to_do}"
        summary = job_summary(only, tests)
        address = f"jobs/{only.job_id}"
        started_at, completed_at = only.started_at, only.completed_at
    else:
        title = graph_title(jobs, nodes) if run.status in RUN_FINAL else "Running"
        summary = graph_summary(jobs, nodes, base_url) if run.status in RUN_FINAL else ""
        address = f"runs/{run.run_id}"
        started_at, completed_at = run.created_at, run.completed_at
    return _check(
        run,
        name=check_name(run),
        external_id=str(run.run_id),
        state=state,
        title=title,
        summary=summary,
        details_url=f"{base_url}/dashboard/{address}" if base_url else None,
        annotations=annotations(tests.failures) if tests else (),
        started_at=started_at,
        completed_at=completed_at,
    )


def _check(run: Run, *, state: CheckState, started_at: str | None, completed_at: str | None, **members: Any) -> Check:
    has_ended = state.status == "completed"
    return Check(
        repository=str(run.checks_repository),
        commit=str(run.checks_commit),
        ref=_ref(run),
        status=state.status,
        phase=state.phase,
        conclusion=state.conclusion,
        started_at=_to_second(started_at) if state.status != "queued" else None,
        completed_at=_to_second(completed_at) if has_ended else None,
        **members,
    )


def _ref(run: Run) -> str:
    """What the run is for. A pull request of the repository itself is about its branch."""
    if run.pull_request and not run.is_fork:
        return str((run.trigger or {}).get("branch") or run.git_ref)
    return str(run.git_ref).removeprefix("refs/heads/").removeprefix("refs/tags/")


def _to_second(moment: str | None) -> str | None:
    return f"{clock.parse_timestamp(moment):%Y-%m-%dT%H:%M:%SZ}" if moment else None


def job_title(job: Job, reason: str | None) -> str:
    """One line about how far the job is, or how it ended."""
    status = Status(job.status)
    if status == Status.RUNNING:
        return f"Running on {job.agent_name}" if job.agent_name else "Running"
    if status == Status.WAITING:
        if job.environment:
            return f"Waiting for the gates of {job.environment}"
        return "Waiting until the pipeline is resumed" if job.is_first else "Waiting for other jobs"
    if status not in FINAL:
        return "Waiting for an agent"
    if status == Status.COMPLETED and job.reused_from:
        return "Passed before with the same inputs"
    if status in (Status.SKIPPED, Status.CANCELLED) and reason:
        return f"{_WORDS[status].capitalize()}: {reason}"
    took = f" after {_span(job)}" if job.started_at and job.completed_at else ""
    if status == Status.FAILED and job.exit_code:
        return f"Failed with exit code {int(job.exit_code)}{took}"
    return f"{_WORDS[status].capitalize()}{took}"


def _span(job: Job) -> str:
    took = clock.parse_timestamp(str(job.completed_at)) - clock.parse_timestamp(str(job.started_at))
    minutes, rest = divmod(max(0, round(took.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def job_summary(job: Job, tests: JobTests | None) -> str:
    """What GitHub shows below the title of a job that has ended; empty before."""
    if job.status not in FINAL:
        return ""
    parts = []
    if job.error_message:
        parts.append(code_block(str(job.error_message)[:_MESSAGE_CHARACTERS]))
    failed = [step for step in job.steps or () if step.get("state") in (StepState.FAILED, StepState.TIMED_OUT)]
    parts += [f"The step {code(step['name'])} {_WORDS[Status(step['state'])]}." for step in failed[:_NAMED]]
    if tests is not None:
        parts += _tests_summary(tests)
    return "\n\n".join(parts)


def _tests_summary(tests: JobTests) -> Iterable[str]:
    totals = tests.totals
    if totals.total:
        counts = [("failed", totals.failed), ("skipped", totals.skipped), ("flaky", totals.flaky)]
        others = "".join(f", {number:,} {word}" for word, number in counts if number)
        yield f"**Tests:** {totals.passed:,} of {totals.total:,} passed{others}."
    if tests.coverage is not None:
        yield f"**Coverage:** {tests.coverage.percent} % of the lines."
    if tests.failures:
        named = [f"- {code(_test_name(one))}" for one in tests.failures[:_NAMED]]
        more = totals.failed - len(named)
        yield "\n".join([*named, *([f"- and {more:,} more"] if more > 0 else [])])


def graph_title(jobs: Sequence[GraphJob], nodes: Mapping[str, RunNode]) -> str:
    """How many jobs the run has, and how many of them ended how."""
    counts = _counts(jobs, nodes)
    ended = ", ".join(f"{number} {_WORDS[status]}" for status, number in counts.items() if status in FINAL)
    total = sum(counts.values())
    return f"{total} job{'s' if total != 1 else ''}" + (f": {ended}" if ended else "")


def graph_summary(jobs: Sequence[GraphJob], nodes: Mapping[str, RunNode], base_url: str) -> str:
    """The jobs that did not pass, with links to their pages."""
    lines = []
    for job in jobs:
        node = nodes.get(job.name)
        if node is None or node.state not in FINAL or node.state == Status.COMPLETED:
            continue
        name = code(job.name)
        name = f"[{name}]({base_url}/dashboard/jobs/{node.job_id})" if base_url else name
        reason = f": {code(str(node.reason))}" if node.reason else ""
        lines.append(f"- {name} {_WORDS[Status(node.state)]}{reason}")
    more = len(lines) - _NAMED
    return "\n".join([*lines[:_NAMED], *([f"- and {more} more"] if more > 0 else [])])


def _counts(jobs: Sequence[GraphJob], nodes: Mapping[str, RunNode]) -> dict[Status, int]:
    states = [Status(nodes[job.name].state) for job in jobs if job.name in nodes]
    return {status: states.count(status) for status in Status if status in states}


def annotations(failures: Iterable[FailedTest]) -> list[Annotation]:
    """One remark for each failed test, at the line that its runner has printed, or else at the report."""
    return [_annotation(one) for one in failures]


def _annotation(one: FailedTest) -> Annotation:
    failure = one.failure
    path, line = failure_place(failure.details) or (one.file, 1)
    message = "\n\n".join(filter(None, (failure.message, failure.details))) or "It failed without a message."
    return Annotation(path=path, line=line, title=_test_name(one), message=message)


def failure_place(details: str) -> tuple[str, int] | None:
    """The first line of a file of the repository that the text names; None if it names none."""
    for found in _PLACE.finditer(details[:_DETAILS_CHARACTERS]):
        path, line = found[1], int(found[2])
        if line and ".." not in path.split("/") and not _OTHERS_CODE.search(path):
            return path, line
    return None


def _test_name(one: FailedTest) -> str:
    failure = one.failure
    return f"{failure.group}: {failure.name}" if failure.group else str(failure.name)


def code(text: str) -> str:
    """The text as code within a line of Markdown."""
    text = " ".join(text.split()) or "?"
    fence = "`" * (_longest_ticks(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def code_block(text: str) -> str:
    """The text as a block of code in Markdown."""
    fence = "`" * max(3, _longest_ticks(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest_ticks(text: str) -> int:
    return max((len(found) for found in re.findall("`+", text)), default=0)
