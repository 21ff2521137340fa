"""The conversation with the control plane: one method for each request, typed answers."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass
from typing import Any, Optional

from agent.client import Client
from agent.identity import Identity, plain_id

# Below this, compressing costs more than it saves.
_GZIP_FROM_BYTES = 512


@dataclass(frozen=True)
class Assignment:
    """An attempt of a job that this agent shall run, or holds."""

    job_id: str
    attempt: int

    def __str__(self) -> str:
        return f"job {self.job_id} attempt {self.attempt}"


@dataclass(frozen=True)
class Command:
    """What the control plane wants of an attempt: `cancel`, or `abandon` when it is this agent's no longer."""

    assignment: Assignment
    command: str


@dataclass(frozen=True)
class HeartbeatAnswer:
    """What the control plane says when it hears from the agent; `next_check_interval` is in seconds."""

    status: str
    next_check_interval: float
    config_version: Optional[int]
    jobs: list[Assignment]
    commands: list[Command]


@dataclass(frozen=True)
class StepDefinition:
    """One command of a job; `timeout` is in seconds, None for no limit of its own."""

    name: str
    run: str
    env: dict[str, str]
    timeout: Optional[float]


@dataclass(frozen=True)
class Definition:
    """What a job does; `timeout` in seconds is for all steps together."""

    steps: list[StepDefinition]
    env: dict[str, str]
    timeout: Optional[float]


@dataclass(frozen=True)
class JobDetails:
    """What the control plane tells when an attempt starts; without `definition` it stands in the repository."""

    pipeline: str
    repository: str
    git_ref: str
    env: dict[str, str]
    timeout: Optional[float]
    definition: Optional[Definition]
    definition_path: str


@dataclass(frozen=True)
class Configuration:
    """What the control plane decides for this agent; `identity` is a new key, None while the present one stays."""

    version: Optional[int]
    slots: Optional[int]
    identity: Optional[Identity]


class ControlPlane:
    """The agent's requests. Those that take `stop` repeat themselves until they are answered or `stop` is set.

    All raise `Refused`; those with `stop` raise `GivenUp`, the others `Unreachable`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def enrol(self, body: dict[str, Any], *, idempotency_key: str, stop: threading.Event) -> Identity:
        """Become an agent. The same key asks again for an answer that was lost."""
        return self._client.insist(
            "POST",
            "/agents/enrol",
            body=_json(body),
            headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
            understand=lambda answer: Identity.from_answer(self._client.url, answer),
            stop=stop,
        )

    def configuration(self) -> Configuration:
        """Ask once for the configuration."""
        identity = self._identity

        def understand(answer: dict[str, Any]) -> Configuration:
            new = answer["key_id"] != identity.key_id and answer.get("workload_identity_secret")
            return Configuration(
                version=answer.get("config_version"),
                slots=answer.get("slots"),
                identity=Identity.from_answer(identity.url, answer) if new else None,
            )

        return self._client.send("GET", f"/agents/{identity.agent_id}/config", understand=understand)

    def heartbeat(self, report: dict[str, Any], *, created: int) -> HeartbeatAnswer:
        """Say once how the agent is; `created` must be greater than at any time before."""
        agent_id = self._identity.agent_id
        return self._client.send(
            "POST",
            f"/agents/{agent_id}/heartbeat",
            body=_json({"agent_id": agent_id, **report}),
            headers={"Content-Type": "application/json"},
            understand=_heartbeat_answer,
            created=created,
        )

    def start(self, job: Assignment, *, stop: threading.Event) -> JobDetails:
        """Acknowledge an assignment."""
        return self._client.insist(
            "POST",
            f"{self._path(job)}/start",
            body=_json({"attempt": job.attempt}),
            headers={"Content-Type": "application/json"},
            understand=_job_details,
            stop=stop,
        )

    def definition(self, job: Assignment, *, commit: str, text: str, stop: threading.Event) -> Definition:
        """Have the repository's own definition read and checked."""
        return self._client.insist(
            "POST",
            f"{self._path(job)}/definition",
            body=_json({"attempt": job.attempt, "commit": commit, "text": text}),
            headers={"Content-Type": "application/json"},
            understand=_definition,
            stop=stop,
        )

    def log(self, job: Assignment, sequence: int, data: bytes, *, stop: threading.Event) -> Optional[str]:
        """Deliver one chunk; returns what is wished of the job, if anything."""
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) >= _GZIP_FROM_BYTES:
            packed = gzip.compress(data, compresslevel=3, mtime=0)
            if len(packed) < len(data) * 0.9:
                data = packed
                headers["Content-Encoding"] = "gzip"
        return self._client.insist(
            "POST",
            f"{self._path(job)}/log/{job.attempt}/{sequence}",
            body=data,
            headers=headers,
            understand=lambda answer: _optional_text(answer["wish"]),
            stop=stop,
        )

    def finish(
        self, job: Assignment, report: dict[str, Any], *, wants_next: bool, stop: threading.Event
    ) -> Optional[Assignment]:
        """Report how the attempt ended; returns the next one, if it is wanted and there is one for this agent."""
        return self._client.insist(
            "POST",
            f"{self._path(job)}/finish",
            body=_json({"attempt": job.attempt, **report, "wants_next": wants_next}),
            headers={"Content-Type": "application/json"},
            understand=lambda answer: _assignment(answer["next"]) if answer["next"] else None,
            stop=stop,
        )

    @property
    def _identity(self) -> Identity:
        identity = self._client.identity
        if identity is None:
            raise AssertionError("an agent without identity has nothing to say")
        return identity

    def _path(self, job: Assignment) -> str:
        return f"/agents/{self._identity.agent_id}/jobs/{job.job_id}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _heartbeat_answer(answer: dict[str, Any]) -> HeartbeatAnswer:
    return HeartbeatAnswer(
        status=str(answer["status"]),
        next_check_interval=float(answer["next_check_interval"]),
        config_version=answer.get("config_version"),
        jobs=[_assignment(job) for job in answer["jobs"]],
        commands=[Command(_assignment(command), str(command["wish"])) for command in answer["wishes"]],
    )


def _assignment(document: dict[str, Any]) -> Assignment:
    return Assignment(job_id=plain_id(document["job_id"]), attempt=int(document["attempt"]))


def _job_details(answer: dict[str, Any]) -> JobDetails:
    return JobDetails(
        pipeline=str(answer["pipeline"]),
        repository=str(answer["repository"]),
        git_ref=str(answer["git_ref"]),
        env=_env(answer["env"]),
        timeout=_seconds(answer["timeout"]),
        definition=_definition(answer["definition"]) if answer["definition"] is not None else None,
        definition_path=str(answer.get("definition_path") or ".hybrid-ci.yml"),
    )


def _definition(document: dict[str, Any]) -> Definition:
    return Definition(
        steps=[
            StepDefinition(
                name=str(step["name"]),
                run=str(step["run"]),
                env=_env(step.get("env")),
                timeout=_seconds(step.get("timeout")),
            )
            for step in document["steps"]
        ],
        env=_env(document.get("env")),
        timeout=_seconds(document.get("timeout")),
    )


def _env(document: Optional[dict[str, Any]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in (document or {}).items()}


def _seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


def _optional_text(value: Any) -> Optional[str]:
    return None if value is None else str(value)
