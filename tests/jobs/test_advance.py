"""Advancing a run: what starts when, what is skipped, and how the run ends."""

from apps.jobs.models import Job
from apps.jobs.selectors.runs import run_view
from apps.jobs.services.advance import run_advance
from tests.jobs.runs import DIAMOND, STEPS, Worker, states, status


def test_a_job_starts_when_all_that_it_needs_has_succeeded(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    assert states(run_id) == {"build": "queued", "lint": "waiting", "test": "waiting", "ship": "waiting"}
    worker.finish_named(run_id)
    assert states(run_id) == {"build": "completed", "lint": "queued", "test": "queued", "ship": "waiting"}
    lint = worker.take()
    worker.finish(lint)
    assert states(run_id)["ship"] == "waiting"
    worker.finish(worker.take())
    assert states(run_id)["ship"] == "queued"
    assert status(run_id) == "running"
    worker.finish(worker.take())
    assert set(states(run_id).values()) == {"completed"}
    assert status(run_id) == "completed"


def test_what_needs_a_failed_job_is_skipped_with_its_followers_and_the_run_fails(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id, build=1)
    assert states(run_id) == {"build": "failed", "lint": "skipped", "test": "skipped", "ship": "skipped"}
    assert status(run_id) == "failed"
    view = run_view(run_id)
    assert view.nodes["lint"].reason == "build failed"
    job = Job.get(view.nodes["ship"].job_id)
    assert (job.status, job.error_message, job.open) == ("skipped", "The job was skipped: lint was skipped.", None)


def test_needs_ask_for_any_end_or_for_a_failure(worker: Worker) -> None:
    run_id = worker.run(
        f"""
jobs:
  test: {{{STEPS}}}
  report: {{needs: [{{job: test, result: any}}], {STEPS}}}
  alarm: {{needs: [{{job: test, result: failure}}], {STEPS}}}
  ship: {{needs: test, {STEPS}}}
"""
    )
    worker.finish_named(run_id, test=1)
    assert states(run_id) == {"test": "failed", "report": "queued", "alarm": "queued", "ship": "skipped"}
    again = worker.run(
        f"jobs: {{test: {{{STEPS}}}, alarm: {{needs: [{{job: test, result: failure}}], {STEPS}}}}}", git_ref="v2"
    )
    worker.finish_named(again)
    assert states(again) == {"test": "completed", "alarm": "skipped"}
    assert status(again) == "completed"


def test_a_condition_is_evaluated_when_the_needs_have_ended(worker: Worker) -> None:
    run_id = worker.run(
        f"""
jobs:
  test: {{outputs: [VERSION], {STEPS}}}
  ship: {{needs: test, if: "branch == 'main' && needs.test.outputs.VERSION == '3'", {STEPS}}}
  tag: {{needs: test, if: "tag != ''", {STEPS}}}
  clean: {{needs: test, if: always(), {STEPS}}}
"""
    )
    worker.finish(worker.take(), outputs={"VERSION": "3"})
    assert states(run_id) == {"test": "completed", "ship": "queued", "tag": "skipped", "clean": "queued"}
    assert "its condition is false" in str(run_view(run_id).nodes["tag"].reason)


def test_a_matrix_runs_at_most_so_many_cells_at_once(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{test: {{matrix: {{axes: {{n: [1, 2, 3]}}, max_parallel: 2}}, {STEPS}}}}}")
    assert sorted(states(run_id).values()) == ["queued", "queued", "waiting"]
    first = worker.take()
    assert sorted(states(run_id).values()) == ["queued", "queued", "waiting"]
    worker.finish(first)
    assert sorted(states(run_id).values()) == ["completed", "queued", "queued"]


def test_the_first_failure_in_a_matrix_that_fails_fast_cancels_the_others(worker: Worker) -> None:
    run_id = worker.run(
        f"jobs: {{test: {{matrix: {{axes: {{n: [1, 2, 3]}}, max_parallel: 2, fail_fast: true}}, {STEPS}}}}}"
    )
    first, second = worker.take(), worker.take()
    worker.finish(first, exit_code=1)
    assert sorted(states(run_id).values()) == ["cancelled", "failed", "queued"]
    assert Job.get(second.job_id).cancel_requested
    worker.finish(second, exit_code=143)
    assert status(run_id) == "failed"


def test_a_failure_that_is_allowed_counts_as_a_success_for_the_others_and_for_the_run(worker: Worker) -> None:
    run_id = worker.run(f"jobs: {{lint: {{allow_failure: true, {STEPS}}}, ship: {{needs: lint, {STEPS}}}}}")
    worker.finish_named(run_id, lint=1)
    assert states(run_id) == {"lint": "failed", "ship": "queued"}
    worker.finish_named(run_id)
    assert status(run_id) == "completed"


def test_advancing_again_changes_nothing(worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    before = states(run_id)
    run_advance(run_id=run_id)
    run_advance(run_id=run_id)
    assert states(run_id) == before


def test_each_job_that_must_fail_has_to(worker: Worker) -> None:
    needs = "[{job: a, result: failure}, {job: b, result: failure}]"
    run_id = worker.run(f"jobs: {{a: {{{STEPS}}}, b: {{{STEPS}}}, c: {{needs: {needs}, {STEPS}}}}}")
    worker.finish_named(run_id, b=1)
    assert states(run_id)["c"] == "skipped"
    assert run_view(run_id).nodes["c"].reason == "a did not fail"
