"""What the end of a job brings about in its run."""

from datetime import timedelta

import pytest

from apps.jobs.models import Job
from apps.jobs.services import advance
from apps.jobs.services.run_following import run_follow
from controlplane.lib import clock
from controlplane.lib.errors import NotFound, Unavailable
from tests.jobs.runs import DIAMOND, Worker, states


def test_the_end_of_a_job_lets_those_start_that_need_it(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish(worker.take())
    assert states(run_id) == {"build": "completed", "lint": "queued", "test": "queued", "ship": "waiting"}


@pytest.mark.parametrize("failure", [Unavailable(), NotFound("The run is gone.")])
def test_a_run_that_cannot_be_advanced_now_is_left_to_the_sweep(
    worker: Worker, failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = worker.run(DIAMOND)
    job = worker.take()
    with monkeypatch.context() as patched:

        def fails(**_: object) -> None:
            raise failure

        patched.setattr(advance, "run_advance", fails)
        worker.finish(job)
    assert "a run was not advanced, the sweep does it" in caplog.text
    assert states(run_id) == {"build": "completed", "lint": "waiting", "test": "waiting", "ship": "waiting"}
    with clock.shifted(timedelta(minutes=1)):
        advance.runs_advance(seconds=2)
    assert states(run_id)["lint"] == "queued"


def test_the_end_of_the_only_job_of_a_run_reads_nothing(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "run_advance", lambda **_: pytest.fail("a run was advanced"))
    run_follow(Job(job_id="job", run_id="run", node="#first"))
    run_follow(Job(job_id="job", run_id="run"))
