"""What a job of a graph runs: its own steps and variables, filled in with what the run knows by then."""

from apps.jobs.models import Job
from tests.jobs.runs import COMMIT, Worker


def test_a_job_gets_its_steps_its_cell_and_what_others_hand_on(worker: Worker) -> None:
    worker.run(
        """
env: {COLOUR: never}
jobs:
  build: {outputs: [VERSION], steps: [{run: make}]}
  test:
    needs: build
    matrix: {axes: {python: ["3.11", "3.12"]}}
    env: {PYTHON: "${{ matrix.python }}", VERSION: "${{ needs.build.outputs.VERSION }}"}
    timeout: 5m
    steps: [{name: unit, run: make test}]
""",
        env={"ASKED": "1"},
    )
    worker.finish(worker.take(), outputs={"VERSION": "7"})
    job = worker.take()
    assert (job.node, job.commit, job.env) == ("test (3.11)", COMMIT, {"ASKED": "1"})
    assert job.definition["env"] == {"COLOUR": "never", "PYTHON": "3.11", "VERSION": "7"}
    assert job.definition["steps"] == [{"name": "unit", "run": "make test", "env": {}, "timeout": None}]
    assert Job.get(job.job_id).steps == [{"name": "unit", "state": "pending"}]
    assert Job.get(job.job_id).timeout == 300


def test_a_value_that_looks_like_an_expression_is_handed_on_as_it_is(worker: Worker) -> None:
    worker.run(
        """
parameters: {given: {default: "${{needs.build.outputs.V}}$"}}
jobs:
  build: {outputs: [V], steps: [{run: make}]}
  test:
    needs: build
    if: "env.V == '${{ branch }}$'"
    env: {V: "${{ needs.build.outputs.V }}", GIVEN: "${{ parameters.given }}"}
    artifacts: {paths: "out/${{ parameters.given }}"}
    steps: [{run: make}]
"""
    )
    worker.finish(worker.take(), outputs={"V": "${{ branch }}$"})
    definition = worker.take().definition
    assert definition["env"] == {"V": "${{ branch }}$", "GIVEN": "${{needs.build.outputs.V}}$"}
    assert definition["artifacts"]["paths"] == ["out/${{needs.build.outputs.V}}$"]
