"""Which acts note that the checks of a commit may have changed, and which cost nothing."""

from apps.jobs.models import RUN, Job, Run
from apps.jobs.selectors.runs import run_view
from apps.jobs.services.check_changes import checks_changed_add
from apps.jobs.services.run_retries import run_take_back
from apps.notifications.selectors.outbox import OutboxItem
from controlplane.nosql.transaction import Transaction
from tests.conftest import OPERATOR
from tests.jobs.checked import HEAD, begun, checked_job, graph_run
from tests.jobs.runs import DIAMOND, STEPS, Worker
from tests.metering import dynamodb_calls
from tests.properties.consistency import Items


def noted() -> list[str]:
    """The runs that are noted, in any order."""
    return [OutboxItem.from_raw_data(item).fact["run_id"] for item in Items().of(OutboxItem)]


def test_a_transaction_notes_a_run_once(tables: None) -> None:
    transaction = Transaction()
    for _ in range(2):
        checks_changed_add(transaction, key="checks:github:acme/shop:c0ffee", run_id="01run")
    transaction.commit()
    assert noted() == ["01run"]


def test_the_start_and_the_end_of_a_job_of_a_run_with_checks_are_noted(worker: Worker) -> None:
    job = checked_job()
    assert job.checks_key == f"checks:github:acme/shop:{HEAD}"
    assert len(noted()) == 1
    started = begun(worker, job)
    assert len(noted()) == 2
    worker.finish(started)
    assert noted() == [job.run_id] * 3
    assert Job.get(job.job_id).status == "completed"


def test_jobs_that_start_together_and_the_end_of_a_run_are_noted_once_each(worker: Worker) -> None:
    run_id = graph_run(worker, DIAMOND)
    before = len(noted())
    worker.finish(worker.take())
    # The start and the end of a job, and two others that are queued by one transaction.
    assert len(noted()) == before + 3
    worker.finish_named(run_id)
    before = len(noted())
    worker.finish(worker.take())
    # The start and the end of the last job, and that of the run.
    assert len(noted()) == before + 3
    run_take_back(actor=OPERATOR, view=run_view(run_id), everything=True)
    assert len(noted()) == before + 5
    assert Run.get(run_id, RUN).status == "running"


def test_other_runs_note_nothing_and_cost_what_they_cost_before(worker: Worker) -> None:
    plain, checked = worker.run(f"jobs: {{one: {{{STEPS}}}}}"), None
    with dynamodb_calls() as of_plain:
        worker.finish(worker.take())
    assert noted() == []
    assert run_view(plain).run.checks_key is None
    checked = graph_run(worker, f"jobs: {{one: {{{STEPS}}}}}")
    with dynamodb_calls() as of_checked:
        worker.finish(worker.take())
    assert run_view(checked).run.status == run_view(plain).run.status == "completed"
    # The end of a job of a run with checks reads the job, since the agent does not know of checks.
    assert of_checked.calls - of_plain.calls == 2


def test_a_long_name_of_a_repository_still_makes_a_key(worker: Worker) -> None:
    run = Run("01run", RUN, checks_of="c" * 63, checks_repository="/".join(["g" * 99] * 5), checks_commit=HEAD)
    assert run.checks_key is not None
    assert len(run.checks_key) <= 512
    assert run.checks_key.endswith(HEAD)
