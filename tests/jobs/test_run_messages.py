"""What messages say of the end of a run."""

from typing import Any

from apps.jobs.selectors.runs import run_get
from apps.jobs.services.run_messages import run_message
from apps.jobs.states import RunStatus
from apps.notifications.states import Occasion
from tests.jobs.runs import COMMIT, STEPS, Worker


def test_a_message_names_commit_person_jobs_with_their_first_line_time_and_page(worker: Worker, settings: Any) -> None:
    settings.PUBLIC_URL = "https://ci.example.com"
    jobs = "".join(f"  job{number}: {{{STEPS}}}\n" for number in range(5))
    run_id = worker.run(f"jobs:\n{jobs}")
    for job in [*worker.take_all()]:
        worker.finish(job, exit_code=2)
    run = run_get(run_id)
    message = run_message(
        run_id,
        occasion=Occasion.FAILED,
        result=RunStatus.FAILED,
        ended_at=str(run.completed_at),
    )
    assert (message.headline, message.subject, message.is_good) == ("Failed", "graph on main", False)
    facts = dict(message.facts)
    assert (facts["Commit"], facts["Started by"]) == (COMMIT[:12], "operator")
    assert [name for name, _ in message.facts].count("Failed job") == 3
    assert message.url == f"https://ci.example.com/dashboard/runs/{run_id}"
    settings.PUBLIC_URL = ""
    assert (
        run_message(run_id, occasion=Occasion.FIXED, result=RunStatus.COMPLETED, ended_at=run.completed_at).url is None
    )
