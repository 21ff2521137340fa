"""The conversation with the control plane: one method for each request, typed answers."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from agent.client import Client
from agent.identity import Identity, plain_id
from agent.machine import resolves

# How many jobs an agent may run at once.
MAX_SLOTS = 64

# Below this, compressing costs more than it saves.
_GZIP_FROM_BYTES = 512


class StepState:
    """The states of a step, as heartbeats and finish reports name them."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Assignment:
    """An attempt of a job that this agent shall run or runs."""

    job_id: str
    attempt: int

    def __str__(self) -> str:
        return f"job {self.job_id} attempt {self.attempt}"


@dataclass(frozen=True)
class Command:
    """What the agent shall do with an attempt: `cancel` it, or `abandon` it because another agent has it now."""

    assignment: Assignment
    command: str


@dataclass(frozen=True)
class HeartbeatAnswer:
    """The answer to a heartbeat; `next_check_interval` is in seconds."""

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
    """What a job runs. `timeout`, in seconds, is for all steps together.

    With `submodules` the agent fetches them, too. `container` is the image that the steps run in.
    """

    steps: list[StepDefinition]
    env: dict[str, str]
    timeout: Optional[float]
    container: Optional[str] = None
    submodules: bool = False


@dataclass(frozen=True)
class JobDetails:
    """The answer to a start; without `definition`, the repository's file `definition_path` defines the job.

    `log_limit` is the most bytes of output to send. An older control plane names none.
    """

    pipeline: str
    repository: str
    git_ref: str
    env: dict[str, str]
    timeout: Optional[float]
    definition: Optional[Definition]
    definition_path: str
    log_limit: Optional[int]


@dataclass(frozen=True)
class Configuration:
    """This agent's configuration; `identity` has a new key, and is None while the present key stays."""

    version: Optional[int]
    slots: Optional[int]
    identity: Optional[Identity]


class ControlPlane:
    """The agent's requests. Those that take `stop` are repeated until there is an answer or `stop` is set.

    All raise `Refused`, those with `stop` only if it is about the request; they raise `GivenUp`, the others
    `Unreachable`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def enrol(self, body: dict[str, Any], *, idempotency_key: str, stop: threading.Event) -> Identity:
        """Enrol this machine. With the same key, a lost answer can be asked for again."""
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

    def heartbeat(self, report: dict[str, Any], *, created: Callable[[], int]) -> HeartbeatAnswer:
        """Send one heartbeat; the time that `created` gives must be greater than that of any heartbeat before."""
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
        """Report the repository's own pipeline file; the answer is what it defines."""
        return self._client.insist(
            "POST",
            f"{self._path(job)}/definition",
            body=_json({"attempt": job.attempt, "commit": commit, "text": text}),
            headers={"Content-Type": "application/json"},
            understand=_definition,
            stop=stop,
        )

    def log(self, job: Assignment, sequence: int, data: bytes, *, stop: threading.Event) -> Optional[str]:
        """Deliver one chunk of the log; returns the command for the attempt, if there is one."""
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

    def host_resolves(self) -> bool:
        """Whether the control plane's host has an address at the moment, as this machine sees it."""
        return resolves(self._client.host)

    @property
    def _identity(self) -> Identity:
        identity = self._client.identity
        if identity is None:
            raise AssertionError("this machine must enrol before it sends requests")
        return identity

    def _path(self, job: Assignment) -> str:
        return f"/agents/{self._identity.agent_id}/jobs/{job.job_id}"


def _json(document: dict[str, Any]) -> bytes:
    """The document as JSON, unescaped: escapes would make some texts six times as long.

    A byte of a file name that is no UTF-8 becomes a question mark: the control plane refuses half a surrogate pair.
    """
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


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
        definition_path=str(answer["definition_path"]),
        log_limit=int(answer["log_limit"]) if answer.get("log_limit") else None,
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
        container=_optional_text(document.get("container")),
        submodules=bool(document.get("submodules")),
    )


def _env(document: Optional[dict[str, Any]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in (document or {}).items()}


def _seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


def _optional_text(value: Any) -> Optional[str]:
    return None if value is None else str(value)
