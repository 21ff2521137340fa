"""Creates what the pages show through the services: pipelines, agents and jobs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.agents.services import agent_enrol, enrolment_token_create, heartbeat_record
from apps.jobs.selectors import job_get
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    AttemptResult,
    attempt_finish,
    attempt_start,
    job_create,
    jobs_claim,
    log_append,
    log_archive,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.conftest import ADMIN

DEFINITION = "steps:\n  - name: lint\n    run: make lint\n  - name: test\n    run: make test\n"
STEPS = ("lint", "test")


class Scene:
    """Acts as an admin and as agents would."""

    def __init__(self) -> None:
        self.admin = replace(ADMIN, name="Ada")

    def pipeline(self, name: str = "self", *, definition: str | None = DEFINITION) -> str:
        pipeline_save(
            actor=self.admin,
            name=name,
            repository="https://git.example.com/app.git",
            default_ref="main",
            definition=definition,
        )
        return name

    def agent(
        self,
        name: str = "build-01",
        *,
        region: str = "office",
        labels: Sequence[str] = ("linux",),
        heartbeat: bool = True,
    ) -> Actor:
        """An enrolled agent, by default with a heartbeat that reports one free slot."""
        _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=self.admin)
        credentials = agent_enrol(token=token, name=name, region=region, labels=labels, slots=2)
        if heartbeat:
            self.heartbeat(credentials.agent_id)
        return Actor("agent", credentials.agent_id, name)

    def heartbeat(
        self, agent_id: str, running: list[dict[str, Any]] | None = None, *, fault: str | None = None
    ) -> None:
        report = {
            "cpu_percent": 41,
            "memory_percent": 80,
            "disk_percent": 90,
            "jobs_queued": 0,
            "jobs_completed": 3,
            "uptime_seconds": 7200,
            "free_slots": 1,
            "running": running or [],
            "fault": fault,
        }
        heartbeat_record(agent_id=agent_id, report=report, created=clock.epoch(), nonce=new_id())

    def job(self, *, pipeline: str = "self", git_ref: str = "main", **members: Any) -> str:
        return str(job_create(actor=self.admin, pipeline=pipeline, git_ref=git_ref, **members).job_id)

    def start(self, agent: Actor) -> str:
        """Let the agent claim and start the next waiting job."""
        (assignment,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
        attempt_start(agent=agent, job_id=assignment.job_id, attempt=assignment.attempt)
        return assignment.job_id

    def log(self, agent: Actor, job_id: str, *chunks: bytes, first: int = 0, attempt: int = 1) -> None:
        for sequence, data in enumerate(chunks, start=first):
            log_append(agent_id=agent.id, job_id=job_id, attempt=attempt, sequence=sequence, data=data)

    def finish(self, agent: Actor, job_id: str, *, exit_code: int = 0, chunks: int = 0, attempt: int = 1) -> None:
        moment = clock.timestamp(clock.now())
        codes = {name: exit_code if name == STEPS[-1] else 0 for name in STEPS}
        steps = [
            {
                "name": name,
                "state": "failed" if code else "completed",
                "exit_code": code,
                "started_at": moment,
                "completed_at": moment,
            }
            for name, code in codes.items()
        ]
        result = AttemptResult(
            exit_code=exit_code,
            error_message=None if exit_code == 0 else f"Step “test” ended with exit code {exit_code}.",
            steps=steps,
            log_chunks=chunks,
            commit="4f1c2ad0" * 5,
        )
        attempt_finish(agent=agent, job_id=job_id, attempt=attempt, result=result)

    def store_log(self, job_id: str) -> None:
        log_archive(job=job_get(job_id))
