"""What went wrong in a job, in a line."""

from apps.jobs.models import Job
from apps.jobs.states import Status


def job_error(job: Job) -> str:
    """The first line of the job's message, or which step failed with which exit code; empty if it is not known."""
    lines = [line for line in str(job.error_message or "").splitlines() if line.strip()]
    if lines:
        return lines[0]
    for step in job.steps or []:
        if step.get("exit_code"):
            return f"step {step['name']} ended with exit code {step['exit_code']}"
    return "its time limit was exceeded" if job.status == Status.TIMED_OUT else ""
