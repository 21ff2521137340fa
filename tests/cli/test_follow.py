"""How the end of a job is said in a sentence."""

import pytest
from hci.commands.jobs import reasons
from hci.follow import job_end


@pytest.mark.parametrize(
    ("status", "members", "said"),
    [
        ("failed", {"exit_code": 3}, "The job failed with exit code 3."),
        ("failed", {"exit_code": 3, "error_message": "No."}, "The job failed with exit code 3: No."),
        ("completed", {}, "The job completed."),
        ("skipped", {"error_message": "The job was skipped: build failed."}, "The job was skipped: build failed."),
        ("cancelled", {"error_message": "The job was cancelled."}, "The job was cancelled."),
        ("cancelled", {}, "The job was cancelled."),
        ("cancelled", {"error_message": "Attempt 1 was lost."}, "The job was cancelled: Attempt 1 was lost."),
        ("timed_out", {}, "The job timed out."),
        (
            "timed_out",
            {"error_message": "The job exceeded its time limit of 5 s."},
            "The job exceeded its time limit of 5 s.",
        ),
    ],
)
def test_the_end_of_a_job_is_said_once(status: str, members: dict[str, object], said: str) -> None:
    assert job_end({"status": status, **members}) == said


def test_what_a_job_waits_for_is_said_once() -> None:
    message = "Queued 5 s ago; no agent has label gpu: start one."
    waiting = {"message": message, "missing_labels": ["gpu"], "jobs_ahead": 3, "estimated_start": None}
    assert reasons({"status": "queued", "waiting": waiting}) == [message]
