"""The log on a job's page: its lines, what is found in it, and the parts of the page that change while the job runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.html import strip_tags
from django.utils.safestring import SafeString

from apps.accounts.policies import Permission
from apps.dashboard.log_commands import log_command
from apps.dashboard.pages import BUSY_SECONDS, number_parameter, page, shared_context
from apps.dashboard.terminal import MAX_PARTS, line_html
from apps.dashboard.views.artifacts import artifacts_of_ended
from apps.dashboard.views.log_attempts import attempt_began, attempt_choices
from apps.dashboard.views.log_steps import STATES, log_steps
from apps.dashboard.views.story import job_story
from apps.dashboard.views.tests import tests_of_ended
from apps.jobs.selectors import (
    AttemptLog,
    Line,
    attempt_log,
    job_attempts,
    job_get,
    job_log_problem,
    job_retries_left,
    job_steps,
)
from apps.jobs.selectors.log_lines import log_lines
from apps.jobs.selectors.log_search import MAX_QUESTION, log_errors, log_first_error, log_search
from apps.jobs.states import FINAL, LEASED, Status, StepState
from controlplane.lib.errors import InvalidInput, NotFound
from controlplane.lib.ids import new_id

# The lines of a block, which the page requests, shows and drops together. The first one has the number 1.
BLOCK_LINES = 100
# The most elements that a block has for colours and links; lines behind those are plain text.
BLOCK_PARTS = 800
# How much of the line of the first error the head of the page shows.
_ERROR_CHARACTERS = 300
# Seconds between two refreshes while the job waits for an agent.
WAITING_SECONDS = 5


@dataclass(frozen=True)
class ShownLine:
    """A line as the page shows it. `kind` is a class for its look, or empty."""

    number: int
    html: SafeString
    kind: str
    cut: bool
    at: int


@dataclass(frozen=True)
class LogView:
    """What the page shows of a log at first: some blocks of it, and where the rest is."""

    attempt: int
    lines: list[ShownLine]
    total: int
    complete: bool
    # The line that the page opens at, or None to open at the end.
    opens_at: int | None
    # Whether that line is the first error.
    opens_at_error: bool
    # What `job_log_state` answers.
    state: dict[str, Any]
    # When the attempt began, or an empty text.
    begun: str
    # Why there is nothing to show.
    problem: str | None = None

    @property
    def first(self) -> int:
        return self.lines[0].number if self.lines else 1

    @property
    def last(self) -> int:
        return self.lines[-1].number if self.lines else 0

    @property
    def error(self) -> str | None:
        """What the line of the first error says, without its colours."""
        found = [line for line in self.lines if self.opens_at_error and line.number == self.opens_at]
        return unescape(strip_tags(found[0].html)).strip()[:_ERROR_CHARACTERS] if found else None

    @property
    def states(self) -> tuple[str, ...]:
        return STATES


def job_facts(job: Any) -> dict[str, Any]:
    """What the page shows about the job besides its log."""
    attempts = job_attempts(job)
    return {
        "job": job,
        "steps": job_steps(job),
        "attempts": attempts,
        **job_story(job, attempts),
        "choices": attempt_choices(job, attempts),
        "retries_left": job_retries_left(job),
        "ended": job.status in FINAL,
        "log_problem": job_log_problem(job),
        "seconds": BUSY_SECONDS if job.status in LEASED | FINAL else WAITING_SECONDS,
        # The head is only sent again when one of these has changed, so that buttons do not move under the pointer.
        "seen": f"{job.status}.{job.attempt}.{'cancelling' if job.cancel_requested else ''}",
    }


def log_view(request: HttpRequest, job: Any, facts: dict[str, Any]) -> LogView | None:
    """The log of the requested attempt, or of the last one: around the line of the parameter `line`, around the first
    error of a failed step, or else its end. None for a job that no agent has taken yet.

    Raises NotFound ``log_not_found`` if the job has no such attempt, and Unavailable.
    """
    if not job.attempt:
        return None
    attempt = number_parameter(request, "attempt") or int(job.attempt)
    try:
        return _log_view(request, job, facts, attempt)
    except NotFound as error:
        if attempt > int(job.attempt):
            raise
        # The stored log was deleted, or an earlier version of the control plane stored it: the rest of the page counts.
        return LogView(attempt, [], 0, True, None, False, {}, "", error.message)


def _log_view(request: HttpRequest, job: Any, facts: dict[str, Any], attempt: int) -> LogView:
    log = attempt_log(job, attempt)
    asked = number_parameter(request, "line")
    opens_at = asked or _first_error(job, log, facts["steps"])
    block = max(0, ((opens_at or log.index.total) - 1) // BLOCK_LINES)
    # The block before too, since the wanted line may be the first one of its own.
    first = max(0, block - 1) * BLOCK_LINES + 1
    found = log_lines(log, first=first, count=(block + 2) * BLOCK_LINES - first + 1)
    begun = attempt_began(job, facts["attempts"], attempt)
    return LogView(
        attempt, _shown(found.lines), found.total, found.complete, opens_at, not asked, _state(log, 0), begun
    )


def _first_error(job: Any, log: AttemptLog, steps: Sequence[Any]) -> int | None:
    """The first line that looks like an error in the step that has failed, or the last line of that step."""
    if job.status not in (Status.FAILED, Status.TIMED_OUT) or log.attempt != job.attempt:
        return None
    failed = [
        number for number, step in enumerate(steps, 1) if step["state"] in (StepState.FAILED, StepState.TIMED_OUT)
    ]
    begins = log.index.steps.get(failed[0], 1) if failed else 1
    return log_first_error(log, first=begins)


def _shown(lines: list[Line]) -> list[ShownLine]:
    shown = []
    left = BLOCK_PARTS
    for place, line in enumerate(lines):
        left = left if place % BLOCK_LINES else BLOCK_PARTS
        kind, text = log_command(line.text)
        html = line_html(text, line.style, most=min(left, MAX_PARTS))
        left -= html.count("</")
        shown.append(ShownLine(line.number, html, kind, line.cut, line.at))
    return shown


def _state(log: AttemptLog, known: int) -> dict[str, Any]:
    """How far the log is, its steps, and the beginnings and ends of groups after the first `known` ones."""
    return {
        "total": log.index.total,
        "complete": log.complete,
        "steps": log_steps(log),
        "groups": log.index.groups[known:],
    }


@page(Permission.JOBS_READ)
def job_log_lines_page(request: HttpRequest, job_id: str) -> HttpResponse:
    """A block of lines, by its number from 0."""
    log = _log(request, job_id)
    first = number_parameter(request, "block") * BLOCK_LINES + 1
    lines: list[Line] = []
    # A page of lines may end early where they are long.
    while len(lines) < BLOCK_LINES:
        found = log_lines(log, first=first + len(lines), count=BLOCK_LINES - len(lines))
        if not found.lines:
            break
        lines += found.lines
    return render(request, "dashboard/log_lines.html", {"lines": _shown(lines)})


@page(Permission.JOBS_READ)
def job_log_state(request: HttpRequest, job_id: str) -> HttpResponse:
    """How far the log is: its lines, whether it has ended, its steps, and its groups after `groups` known marks."""
    log = _log(request, job_id)
    return JsonResponse(_state(log, number_parameter(request, "groups")))


@page(Permission.JOBS_READ)
def job_log_search(request: HttpRequest, job_id: str) -> HttpResponse:
    """The lines in which something is found: `q`, with `regex` and `case`; or without `q`, errors."""
    log = _log(request, job_id)
    question = request.GET.get("q", "")
    try:
        if len(question) > MAX_QUESTION:
            raise InvalidInput.field("q", f"must have at most {MAX_QUESTION} characters")
        if question:
            hits = log_search(log, question=question, regex="regex" in request.GET, case="case" in request.GET)
        else:
            hits = log_errors(log)
    except InvalidInput as error:
        # The page shows the message, and on it the parameter has no name.
        raise InvalidInput(f"The search {error.errors[0]['message']}.", errors=error.errors) from error
    return JsonResponse(
        {"lines": hits.lines, "total": hits.total, "searched": hits.searched, "complete": hits.complete}
    )


def _log(request: HttpRequest, job_id: str) -> AttemptLog:
    job = job_get(job_id)
    return attempt_log(job, number_parameter(request, "attempt") or int(job.attempt))


@page(Permission.JOBS_READ)
def job_live(request: HttpRequest, job_id: str) -> HttpResponse:
    """What has changed since the page's last request, as parts out of band. `seen` is the state that its head shows."""
    job = job_get(job_id)
    facts = job_facts(job)
    context = {**shared_context(request), **facts, "oob": True, "key": new_id()}
    names = ["job_facts", "job_follow", "log_attempts"]
    if request.GET.get("seen") != facts["seen"]:
        names += ["job_head", "job_tests", "job_artifacts"]
        context |= {"tests": tests_of_ended(job), **artifacts_of_ended(request, job)}
    parts = [render_to_string(f"dashboard/{name}.html", context, request).strip() for name in names]
    return HttpResponse("".join(parts))
