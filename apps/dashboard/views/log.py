"""The parts of a job's page that change while it runs: its facts, its steps, and its log."""

from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from apps.accounts.policies import Permission
from apps.dashboard.pages import BUSY_SECONDS, offset_parameter, page, shared_context
from apps.dashboard.terminal import Style, terminal_html
from apps.jobs.selectors import LogSlice, job_get, job_log_problem, job_log_read, job_steps
from apps.jobs.states import FINAL, LEASED
from controlplane.lib.ids import new_id

# The most bytes of a log that one response shows.
SLICE_BYTES = 256 * 1024
# Seconds between two refreshes while the job waits for an agent.
WAITING_SECONDS = 5
# An offset beyond the end of any log.
_BEYOND = 10**15
_PLAIN = Style()


@dataclass(frozen=True)
class LogView:
    """A slice of a log as the page shows it, and the offset of the next slice."""

    html: SafeString
    start: int
    offset: int
    style: Style
    # Whether this slice ends the log of a job that has ended.
    complete: bool
    # Whether the log has more bytes than this slice shows.
    more: bool
    # Whether the page keeps requesting the next slice.
    follows: bool


def job_facts(job: Any) -> dict[str, Any]:
    """What the page shows about the job besides its log."""
    return {
        "job": job,
        "steps": job_steps(job),
        "ended": job.status in FINAL,
        "log_problem": job_log_problem(job),
        "seconds": BUSY_SECONDS if job.status in LEASED | FINAL else WAITING_SECONDS,
        # The head is only sent again when one of these has changed, so that buttons do not move under the pointer.
        "seen": f"{job.status}.{job.attempt}.{'cancelling' if job.cancel_requested else ''}",
    }


def log_slice(request: HttpRequest, job: Any) -> LogView:
    """The requested slice of the log: from the parameter `offset`, or without one the end, which the page follows."""
    if request.GET.get("offset"):
        return _printed(job_log_read(job=job, offset=offset_parameter(request), limit=SLICE_BYTES), follows=False)
    whole = job_log_read(job=job, offset=0, limit=SLICE_BYTES)
    if whole.complete or len(whole.data) < SLICE_BYTES:
        return _printed(whole, follows=True)
    size = job_log_read(job=job, offset=_BEYOND, limit=1).next_offset
    end = job_log_read(job=job, offset=size - SLICE_BYTES, limit=SLICE_BYTES)
    # Begin with a whole line, if there is one.
    line = end.data.find(b"\n") + 1
    return _printed(replace(end, data=end.data[line:]), follows=True)


def _printed(part: LogSlice, *, follows: bool, style: Style = _PLAIN) -> LogView:
    printout = terminal_html(part.data, style=style, last=part.complete)
    start = part.next_offset - len(part.data)
    return LogView(
        html=printout.html,
        start=start,
        offset=start + printout.consumed,
        style=printout.style,
        complete=part.complete,
        more=len(part.data) >= SLICE_BYTES,
        follows=follows,
    )


@page(Permission.JOBS_READ)
def job_live(request: HttpRequest, job_id: str) -> HttpResponse:
    """What has changed since the page's last request: new lines of the log, and other parts out of band.

    `offset` and `style` are those at the end of the log so far; `seen` is the state that the page's head shows.
    """
    job = job_get(job_id)
    facts = job_facts(job)
    part = job_log_read(job=job, offset=offset_parameter(request), limit=SLICE_BYTES)
    log = _printed(part, follows=True, style=Style.parse(request.GET.get("style", "")))
    context = {**shared_context(request), **facts, "log": log, "oob": True, "key": new_id()}
    names = ["job_facts", "log_more"]
    if request.GET.get("seen") != facts["seen"]:
        names.append("job_head")
    parts = [render_to_string(f"dashboard/{name}.html", context, request).strip() for name in names]
    if log.html:
        parts.append(render_to_string("dashboard/log_slice.html", {"log": log}).strip())
    # White space between the parts would become part of the log.
    return HttpResponse("".join(parts))
