"""Concurrency groups: never more slots than the limit, first come first served."""

from apps.jobs.models import Job
from apps.jobs.selectors.groups import group_front, group_slots
from apps.jobs.selectors.jobs_of_run import run_waits
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import attempt_expire, job_cancel, job_retry, run_cancel
from apps.jobs.services.approvals import deployment_approve
from apps.jobs.services.environments import environment_change
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.deployments import acting, deployment_of, environment, user
from tests.jobs.runs import Worker, states, status

ONE = "jobs: {ship: {concurrency: {group: prod}, steps: [{run: make}]}}"


def test_a_slot_goes_to_one_after_the_other_in_their_order(worker: Worker) -> None:
    runs = [worker.run(ONE) for _ in range(3)]
    assert [states(run_id)["ship"] for run_id in runs] == ["queued", "waiting", "waiting"]
    for index in range(3):
        worker.finish(worker.take())
        expected = ["completed"] * (index + 1) + ["queued"] + ["waiting"] * 3
        assert [states(run_id)["ship"] for run_id in runs] == expected[:3]
    assert group_front("graph/prod").taken == 0
    assert {status(run_id) for run_id in runs} == {"completed"}


def test_a_group_has_as_many_slots_as_its_limit(worker: Worker) -> None:
    run_id = worker.run(
        "jobs: {ship: {matrix: {axes: {n: [1, 2, 3, 4]}}, concurrency: {group: prod, limit: 2}, steps: [{run: make}]}}"
    )
    assert sorted(states(run_id).values()) == ["queued", "queued", "waiting", "waiting"]
    assert len(group_slots("graph/prod")) == 2
    worker.finish(worker.take())
    assert sorted(states(run_id).values()) == ["completed", "queued", "queued", "waiting"]


def test_a_cell_that_runs_again_does_not_bar_the_one_before_it_in_the_line(worker: Worker) -> None:
    """With `max_parallel`, the line of the group decides which cell is next; else both would wait for ever."""
    cells = worker.run(
        "jobs: {ship: {matrix: {axes: {n: [1, 2, 3]}, max_parallel: 1}, concurrency: {group: prod},"
        " steps: [{run: make}]}}"
    )
    first = worker.take()
    other = worker.run(ONE)
    worker.finish(first, exit_code=1)
    assert (states(other)["ship"], states(cells)["ship (2)"]) == ("queued", "waiting")
    job_retry(actor=OPERATOR, job_id=first.job_id)
    assert states(cells)["ship (1)"] == "waiting"
    waits = run_waits(run_view(cells))
    assert (waits["ship (2)"].code, waits["ship (1)"].code) == ("group_held", "max_parallel")
    assert "ship (2) come first" in waits["ship (1)"].message
    for _ in range(4):
        worker.finish(worker.take())
    assert {status(run_id) for run_id in (cells, other)} == {"completed"}
    assert group_front("graph/prod").taken == 0


def test_a_failed_cell_decides_about_what_needs_its_matrix_at_once(worker: Worker) -> None:
    """Without the sweep: the cells that wait are cancelled, and what needs them is skipped."""
    run_id = worker.run(
        "jobs: {test: {matrix: {axes: {n: [1, 2, 3]}, max_parallel: 1, fail_fast: true}, steps: [{run: make}]},"
        " ship: {needs: test, steps: [{run: make}]}}"
    )
    worker.finish(worker.take(), exit_code=1)
    assert (states(run_id)["ship"], status(run_id)) == ("skipped", "failed")


def test_a_job_whose_need_runs_again_leaves_the_line(worker: Worker) -> None:
    """Else it would be the next one, and wait for a job that is behind it."""
    steps = "concurrency: {group: prod}, steps: [{run: make}]"
    chain = worker.run(f"jobs: {{build: {{{steps}}}, ship: {{needs: build, {steps}}}}}")
    build = worker.take()
    other = worker.run(ONE)
    worker.finish(build)
    assert (states(other)["ship"], states(chain)["ship"]) == ("queued", "waiting")
    job_retry(actor=OPERATOR, job_id=build.job_id)
    for _ in range(3):
        worker.finish(worker.take())
    assert {status(run_id) for run_id in (chain, other)} == {"completed"}
    assert group_front("graph/prod").taken == 0


def test_a_deployment_whose_gates_close_leaves_the_line(worker: Worker) -> None:
    environment()
    deploys = ONE.replace("{concurrency", "{environment: production, concurrency")
    runs = [worker.run(text) for text in (ONE, deploys, ONE)]
    environment_change(actor=ADMIN, name="production", revision=1, approvals=1, approver_roles=["admin"])
    worker.finish(worker.take())
    assert [states(run_id)["ship"] for run_id in runs] == ["completed", "waiting", "queued"]
    deployment_approve(actor=acting(user("ada", "admin")), deployment_id=str(deployment_of(runs[1]).deployment_id))
    worker.finish(worker.take())
    assert states(runs[1])["ship"] == "queued"


def test_a_job_that_is_cancelled_in_the_line_leaves_it(worker: Worker) -> None:
    runs = [worker.run(ONE) for _ in range(3)]
    job_cancel(actor=OPERATOR, job_id=run_view(runs[1]).nodes["ship"].job_id)
    assert status(runs[1]) == "cancelled"
    worker.finish(worker.take())
    assert states(runs[2])["ship"] == "queued"


def test_a_cancelled_job_with_a_slot_gives_it_back(worker: Worker) -> None:
    runs = [worker.run(ONE) for _ in range(2)]
    run_cancel(actor=OPERATOR, run_id=runs[0])
    assert [states(run_id)["ship"] for run_id in runs] == ["cancelled", "queued"]
    assert group_front("graph/prod").taken == 1


def test_a_lost_job_keeps_its_slot_for_its_next_attempt_and_gives_it_back_with_the_last(worker: Worker) -> None:
    runs = [worker.run(ONE.replace("steps", "retries: 1, steps")) for _ in range(2)]
    for attempt, expected in ((1, "queued"), (2, "failed")):
        job, reason = worker.take(), "it is silent"
        attempt_expire(agent_id=worker.agent.id, job_id=job.job_id, attempt=attempt, heartbeat_at=None, reason=reason)
        assert states(runs[0])["ship"] == expected
    assert states(runs[1])["ship"] == "queued"
    assert group_front("graph/prod").taken == 1


def test_a_newer_job_may_take_the_place_of_the_older_ones(worker: Worker) -> None:
    text = "jobs: {ship: {concurrency: {group: '${{ branch }}', cancel_in_progress: true}, steps: [{run: make}]}}"
    first = worker.run(text)
    running = worker.take()
    second = worker.run(text)
    assert Job.get(running.job_id).cancel_requested
    assert states(second)["ship"] == "waiting"
    worker.finish(running, exit_code=143)
    assert (status(first), states(second)["ship"]) == ("cancelled", "queued")
    third = worker.run(text)
    assert (states(second)["ship"], states(third)["ship"]) == ("cancelled", "queued")
    assert group_front("graph/main").taken == 1


WHOLE = """
concurrency: {group: "deploy-${{ branch }}"}
jobs: {build: {steps: [{run: make}]}, ship: {needs: build, steps: [{run: make}]}}
"""


def test_a_group_of_a_whole_run_lets_the_next_run_start_when_it_has_ended(worker: Worker) -> None:
    runs = [worker.run(WHOLE) for _ in range(3)]
    assert [states(run_id)["build"] for run_id in runs] == ["queued", "waiting", "waiting"]
    waits = run_waits(run_view(runs[1]))["build"]
    assert (waits.code, f"run {runs[0]}" in waits.message) == ("group_held", True)
    worker.finish(worker.take())
    assert [states(run_id)["build"] for run_id in runs] == ["completed", "waiting", "waiting"]
    worker.finish(worker.take())
    assert [status(run_id) for run_id in runs] == ["completed", "running", "running"]
    assert [states(run_id)["build"] for run_id in runs] == ["completed", "queued", "waiting"]
    assert states(worker.run(WHOLE, git_ref="other"))["build"] == "queued"


def test_a_cancelled_run_gives_the_slot_of_its_group_back_or_leaves_the_line(worker: Worker) -> None:
    runs = [worker.run(WHOLE) for _ in range(3)]
    run_cancel(actor=OPERATOR, run_id=runs[1])
    assert status(runs[1]) == "cancelled"
    run_cancel(actor=OPERATOR, run_id=runs[0])
    assert (status(runs[0]), states(runs[2])["build"]) == ("cancelled", "queued")
    assert group_front("graph/deploy-main").taken == 1


def test_a_newer_run_may_take_the_place_of_the_older_one(worker: Worker) -> None:
    text = WHOLE.replace('branch }}"', 'branch }}", cancel_in_progress: true')
    first = worker.run(text)
    running = worker.take()
    second = worker.run(text)
    assert Job.get(running.job_id).cancel_requested
    worker.finish(running, exit_code=143)
    assert (status(first), states(second)["build"]) == ("cancelled", "queued")
