"""Runs for tests: a pipeline with several jobs, an agent that runs them, and how far each is."""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.agents.states import MAX_SLOTS
from apps.jobs.models import Job
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import (
    AttemptResult,
    FileReport,
    JobPlace,
    attempt_define,
    attempt_finish,
    attempt_start,
    job_create,
    jobs_claim,
)
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.queue import entry_of
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import Actor
from tests.conftest import ADMIN, OPERATOR

COMMIT = "c0ffee" + "0" * 34
STEPS = "steps: [{run: make}]"
DIAMOND = f"""
jobs:
  build: {{{STEPS}}}
  lint: {{needs: build, {STEPS}}}
  test: {{needs: build, {STEPS}}}
  ship: {{needs: [lint, test], {STEPS}}}
"""


def graph_pipeline(name: str = "graph") -> str:
    """A pipeline whose definition is in its repository."""
    repository = f"https://git.example.com/{name}.git"
    pipeline_save(actor=ADMIN, name=name, repository=repository, default_ref="main", definition=None)
    return name


class Worker:
    """An agent without labels that runs the jobs of runs by the services themselves."""

    def __init__(self, agent: Actor) -> None:
        self.agent = agent

    def run(self, text: str, *, pipeline: str = "graph", **members: Any) -> str:
        """Start a run whose first job reads the file `text`. Returns the id of the run."""
        created = job_create(actor=OPERATOR, pipeline=pipeline, **members)
        # Whatever else waits.
        _entry_claim(entry_of(created, attempt=1), agent=self.agent, slots=MAX_SLOTS)
        job = self.start(created.job_id)
        self.report(job, text)
        self.finish(job)
        return str(job.run_id)

    def report(self, job: Job, text: str, **found: Any) -> Mapping[str, Any]:
        """Report the file that the job has read."""
        report = FileReport(commit=COMMIT, text=text, **found)
        return attempt_define(
            agent=self.agent, agent_labels=[], job_id=job.job_id, attempt=int(job.attempt), report=report
        )

    def claim(self, *, limit: int = 1) -> list[str]:
        """The ids of the jobs that the agent gets."""
        claimed = jobs_claim(agent=self.agent, sets=queue_registry().sets, limit=limit)
        return [assignment.job_id for assignment in claimed]

    def take(self) -> Job:
        """Claim and start the next job."""
        (job_id,) = self.claim()
        return self.start(job_id)

    def start(self, job_id: str) -> Job:
        """Start a claimed job."""
        return attempt_start(agent=self.agent, job_id=job_id, attempt=int(Job.get(job_id).attempt))

    def take_all(self) -> Iterator[Job]:
        """Claim and start the jobs that are queued now."""
        while claimed := self.claim():
            yield self.start(claimed[0])

    def finish(self, job: Job, *, exit_code: int = 0, **members: Any) -> None:
        """Report the end of a started job."""
        result = AttemptResult(
            exit_code=exit_code,
            error_message=None,
            log_chunks=0,
            commit=COMMIT,
            place=JobPlace(str(job.run_id), str(job.node), job.group),
            **{"steps": [], **members},
        )
        attempt_finish(agent=self.agent, job_id=job.job_id, attempt=int(job.attempt), result=result)

    def finish_named(self, run_id: str, **exit_codes: int) -> None:
        """Run all queued jobs of the run to these exit codes, by their names, or to 0."""
        for job in [*self.take_all()]:
            self.finish(job, exit_code=exit_codes.get(str(job.node), 0))


def states(run_id: str) -> dict[str, str]:
    """The status of each job of the run but the first one."""
    found = {name: str(state) for name, state in run_view(run_id).states.items()}
    found.pop("pipeline")
    return found


def status(run_id: str) -> str:
    """The status of the run."""
    return str(run_view(run_id).run.status)
