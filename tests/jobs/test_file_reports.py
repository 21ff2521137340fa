"""What the first job of a run reports of the pipeline file."""

import pytest

from apps.jobs.selectors.runs import run_view
from apps.jobs.services import FileReport, attempt_define, job_create
from apps.pipelines.services import pipeline_save
from controlplane.lib.errors import InvalidInput, Unprocessable
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.runs import COMMIT, STEPS, Worker, states


def test_parameters_have_the_types_and_the_defaults_that_the_file_gives_them(worker: Worker) -> None:
    text = f"""
parameters: {{level: {{type: choice, options: [low, high], default: low}}, dry: {{type: flag, default: false}}}}
jobs: {{a: {{if: parameters.dry, {STEPS}}}, b: {{if: "parameters.level == 'high'", {STEPS}}}}}
"""
    assert states(worker.run(text)) == {"a": "skipped", "b": "skipped"}
    run_id = worker.run(text, parameters={"dry": "true", "level": "high"})
    assert states(run_id) == {"a": "queued", "b": "queued"}
    assert run_view(run_id).run.parameters == {"level": "high", "dry": True}
    with pytest.raises(Unprocessable, match=r"parameters\.level: must be one of low, high"):
        worker.run(text, parameters={"level": "higher"})


def test_parameters_of_a_definition_on_the_server_are_checked_when_the_run_is_started(worker: Worker) -> None:
    definition = f"parameters: {{level: {{required: true}}}}\njobs: {{a: {{{STEPS}}}}}"
    pipeline_save(
        actor=ADMIN,
        name="server",
        repository="https://git.example.com/s.git",
        default_ref="main",
        definition=definition,
    )
    for given in ({}, {"level": "1", "lavel": "2"}):
        with pytest.raises(InvalidInput):
            job_create(actor=OPERATOR, pipeline="server", parameters=given)
    job_create(actor=OPERATOR, pipeline="server", parameters={"level": "1"})
    job = worker.take()
    assert (job.is_defined_on_server, job.definition) == (True, None)
    report = FileReport(commit=COMMIT, text=None)
    made = attempt_define(agent=worker.agent, agent_labels=[], job_id=job.job_id, attempt=1, report=report)
    # It reads no file.
    assert [step["name"] for step in made["steps"]] == ["make the jobs of the run"]
    worker.finish(job)
    assert states(job.run_id) == {"a": "queued"}
