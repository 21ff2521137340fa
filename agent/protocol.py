"""The conversation with the control plane: one method for each request, typed answers."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar, Union
from urllib.parse import quote

from agent.client import Client, Refused, Unreachable
from agent.endpoints import Endpoints
from agent.exchange import Exchange
from agent.identity import Identity, plain_id
from agent.job_secrets import SecretUse
from agent.machine import any_resolves
from agent.reports import ReportAnswer, ReportFile, Reports

# How many jobs an agent may run at once.
MAX_SLOTS = 64

# Below this, compressing costs more than it saves.
_GZIP_FROM_BYTES = 512

# So many bytes of the path of a report are sent, of which each may become three characters.
_FILE_BYTES = 600
# Members of the answer to a start that the finish report repeats.
_ECHOED = ("run_id", "name", "group")

T = TypeVar("T")


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
    reports: Reports = field(default_factory=Reports)
    container: Optional[str] = None
    submodules: bool = False
    exchange: Exchange = field(default_factory=Exchange)
    # The secrets that the steps get, and their values as the control plane has encrypted them to the attempt.
    secrets: list[SecretUse] = field(default_factory=list)
    encrypted: Optional[str] = field(default=None, repr=False)


@dataclass(frozen=True)
class Wants:
    """What the control plane wants to know of a commit before it decides which jobs there are.

    `trees` are paths whose trees it compares. With `changes` it asks which paths differ from the commit `since` or,
    without that, from where this commit left the branch `branch`; without a branch, the repository's default one.
    """

    trees: list[str]
    changes: bool = False
    since: Optional[str] = None
    branch: Optional[str] = None


@dataclass(frozen=True)
class CommitFacts:
    """The answer to `Wants`. `changed_paths` is None if they are unknown or too many; a missing tree is empty."""

    changed_paths: Optional[list[str]]
    trees: dict[str, str]


@dataclass(frozen=True)
class JobDetails:
    """The answer to a start; without `definition`, the repository's file `definition_path` defines the job.

    Without `definition_path`, too, the control plane has the definition and asks for the commit alone. `git_ref` is
    what to check out, `ref` what the run was started for. `log_limit` is the most bytes of output to send,
    `deployment_targets` are those that the job deploys to, `echo` is what the finish report repeats. An older control
    plane names none.
    """

    pipeline: str
    repository: str
    git_ref: str
    env: dict[str, str]
    timeout: Optional[float]
    definition: Optional[Definition]
    definition_path: Optional[str]
    log_limit: Optional[int]
    deployment_targets: frozenset[str] = frozenset()
    ref: Optional[str] = None
    exchange: Exchange = field(default_factory=Exchange)
    echo: dict[str, Any] = field(default_factory=dict)
    # As that of a definition, if this has one.
    encrypted: Optional[str] = field(default=None, repr=False)
    # With what the repository is fetched, encrypted to the attempt. None: with what the machine has.
    encrypted_fetch: Optional[str] = field(default=None, repr=False)

    @property
    def shown_ref(self) -> str:
        """The ref as people know it. What is checked out may be its commit."""
        return self.ref or self.git_ref


@dataclass(frozen=True)
class Configuration:
    """This agent's configuration; `identity` has a new key, and is None while the present key stays.

    `deployment_targets` are those that it may deploy to. `schedule_interval` is how many seconds it may pass without
    asking for work; None if the control plane names none.
    """

    version: Optional[int]
    slots: Optional[int]
    identity: Optional[Identity]
    endpoints: Endpoints
    deployment_targets: frozenset[str]
    schedule_interval: Optional[float]


class ControlPlane:
    """The agent's requests. Those that take `stop` are repeated until there is an answer or `stop` is set.

    All raise `Refused`, those with `stop` only if it is about the request; they raise `GivenUp`, the others
    `Unreachable`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._endpoints: Optional[Endpoints] = None
        # Unknown until there is a configuration: then the control plane alone decides.
        self._targets: Optional[frozenset[str]] = None

    def use(self, configuration: Configuration) -> None:
        """Send requests to the configuration's endpoints, and let no job deploy to other targets than its."""
        self._endpoints = configuration.endpoints
        self._targets = configuration.deployment_targets

    def targets_beyond(self, details: JobDetails) -> list[str]:
        """The targets of the job that this agent may not deploy to.

        It asks before it names any: an admin may have given it others since its last heartbeat.
        """
        targets = self._targets
        if targets is None or details.deployment_targets <= targets:
            return []
        with suppress(Unreachable, Refused):
            targets = self.configuration().deployment_targets
        return sorted(details.deployment_targets - targets)

    def enrol(self, body: dict[str, Any], *, idempotency_key: str, stop: threading.Event) -> Identity:
        """Enrol this machine. With the same key, a lost answer can be asked for again."""
        return self._client.insist(
            "POST",
            "/agents/enrol",
            body=_json(body),
            headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
            understand=lambda answer: Identity.from_answer(self._client.addresses.urls, answer),
            stop=stop,
            searches=True,
        )

    def configuration(self) -> Configuration:
        """Ask once for the configuration."""
        identity = self._identity

        def understand(answer: dict[str, Any]) -> Configuration:
            new = answer["key_id"] != identity.key_id and answer.get("workload_identity_secret")
            return Configuration(
                version=answer.get("config_version"),
                slots=answer.get("slots"),
                identity=Identity.from_answer(identity.urls, answer) if new else None,
                endpoints=Endpoints(
                    identity.agent_id,
                    given=answer.get("endpoints"),
                    # Only the thread that asks for this changes the address in use, so it is the one that answers.
                    prefix=self._client.addresses.used.prefix,
                ),
                deployment_targets=frozenset(map(str, answer.get("deployment_targets") or ())),
                schedule_interval=_seconds(answer.get("schedule_interval_seconds")),
            )

        return self._client.send("GET", f"/agents/{identity.agent_id}/config", understand=understand)

    def heartbeat(self, report: dict[str, Any], *, created: Callable[[], int]) -> HeartbeatAnswer:
        """Send one heartbeat; the time that `created` gives must be greater than that of any heartbeat before.

        It looks for an address that answers, for all requests. Raises MainUnreachable, too.
        """
        agent_id = self._identity.agent_id
        return self._client.send(
            "POST",
            self._path("heartbeat"),
            body=_json({"agent_id": agent_id, **report}),
            headers={"Content-Type": "application/json"},
            understand=_heartbeat_answer,
            created=created,
            searches=True,
        )

    def start(self, job: Assignment, *, secrets_key: str, stop: threading.Event) -> JobDetails:
        """Acknowledge an assignment. The answer has the job's secrets, encrypted to the key."""
        return self._client.insist(
            "POST",
            self._path("start", job),
            body=_json({"attempt": job.attempt, "secrets_key": secrets_key}),
            headers={"Content-Type": "application/json"},
            understand=_job_details,
            stop=stop,
        )

    def definition(
        self,
        job: Assignment,
        *,
        commit: str,
        text: Optional[str],
        secrets_key: str,
        stop: threading.Event,
        facts: Optional[CommitFacts] = None,
    ) -> Union[Definition, Wants]:
        """Report the repository's own pipeline file; the answer is what it defines, or what else is wanted first.

        `text` is None if the control plane has the definition. `facts` are what it wanted. The answer has the job's
        secrets, encrypted to the key.
        """
        report: dict[str, Any] = {"attempt": job.attempt, "commit": commit, "secrets_key": secrets_key}
        if text is not None:
            report["text"] = text
        if facts is not None:
            report.update(changed_paths=facts.changed_paths, trees=facts.trees, answers=True)
        return self._client.insist(
            "POST",
            self._path("definition", job),
            body=_json(report),
            headers={"Content-Type": "application/json"},
            understand=_definition_or_wants,
            stop=stop,
        )

    def post(
        self,
        request: str,
        job: Assignment,
        document: dict[str, Any],
        *,
        understand: Callable[[dict[str, Any]], T],
        stop: threading.Event,
        **values: str,
    ) -> T:
        """Send a document about the attempt; `values` are for the placeholders of the request's path."""
        return self._client.insist(
            "POST",
            self._path(request, job, **values),
            body=_json(document),
            headers={"Content-Type": "application/json"},
            understand=understand,
            stop=stop,
            accepts_any_code=True,
        )

    def log(
        self, job: Assignment, sequence: int, data: bytes, *, times: Callable[[], str], stop: threading.Event
    ) -> Optional[str]:
        """Deliver one chunk of the log; returns the command for the attempt, if there is one.

        `times` gives the header Log-Times, whose ages are as of the moment at which the request is sent.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) >= _GZIP_FROM_BYTES:
            packed = gzip.compress(data, compresslevel=3, mtime=0)
            if len(packed) < len(data) * 0.9:
                data = packed
                headers["Content-Encoding"] = "gzip"
        return self._client.insist(
            "POST",
            self._path("log", job, sequence=sequence),
            body=data,
            headers=headers,
            fresh=lambda: {"Log-Times": times()},
            understand=lambda answer: _optional_text(answer["wish"]),
            stop=stop,
        )

    def report(self, job: Assignment, number: int, report: ReportFile, *, stop: threading.Event) -> ReportAnswer:
        """Send a file with test results or coverage; returns what is in it. The same number may be sent again."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "gzip",
            "Report-Kind": report.kind,
            # The end of a long path says more than its beginning.
            "Report-File": quote(os.fsencode(report.path)[-_FILE_BYTES:]),
            "Report-Commit": report.commit,
        }
        return self._client.insist(
            "POST",
            self._path("report", job, number=number),
            body=report.packed,
            headers=headers,
            understand=ReportAnswer.from_answer,
            stop=stop,
        )

    def finish(
        self, job: Assignment, report: dict[str, Any], *, wants_next: bool, stop: threading.Event
    ) -> Optional[Assignment]:
        """Report how the attempt ended; returns the next one, if it is wanted and there is one for this agent."""
        return self._client.insist(
            "POST",
            self._path("finish", job),
            body=_json({"attempt": job.attempt, **report, "wants_next": wants_next}),
            headers={"Content-Type": "application/json"},
            understand=lambda answer: _assignment(answer["next"]) if answer["next"] else None,
            stop=stop,
        )

    def upload(self, job: Assignment, text: str, *, stop: threading.Event) -> list[str]:
        """Add the jobs of a pipeline file to the run of the attempt. Returns their names."""
        return self.post(
            "upload", job, {"text": text}, understand=lambda answer: [str(name) for name in answer["jobs"]], stop=stop
        )

    def host_resolves(self) -> bool:
        """Whether a host of the control plane has an address at the moment, as this machine sees it."""
        return any_resolves(self._client.addresses.hosts)

    @property
    def agent_id(self) -> str:
        """This agent, as the control plane knows it."""
        return self._identity.agent_id

    @property
    def _identity(self) -> Identity:
        identity = self._client.identity
        if identity is None:
            raise AssertionError("this machine must enrol before it sends requests")
        return identity

    def _path(self, request: str, job: Optional[Assignment] = None, **values: object) -> str:
        if self._endpoints is None:
            self._endpoints = Endpoints(self._identity.agent_id)
        if job is not None:
            values.update(job_id=job.job_id, attempt=job.attempt)
        return self._endpoints.path(request, **values)


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
        definition_path=_optional_text(answer["definition_path"]),
        log_limit=int(answer["log_limit"]) if answer.get("log_limit") else None,
        deployment_targets=frozenset(map(str, answer.get("deployment_targets") or ())),
        ref=_optional_text(answer.get("ref")),
        exchange=Exchange.from_answer(answer),
        # An older control plane knows neither member.
        echo={name: answer.get(name) for name in _ECHOED} if "name" in answer else {},
        encrypted=_optional_text(answer.get("sealed_secrets")),
        encrypted_fetch=_optional_text(answer.get("sealed_fetch")),
    )


def _definition_or_wants(answer: dict[str, Any]) -> Union[Definition, Wants]:
    wants = answer.get("wants")
    if not wants:
        return _definition(answer)
    return Wants(
        trees=[str(path) for path in wants.get("trees") or ()],
        changes=bool(wants.get("changes")),
        since=_optional_text(wants.get("since")),
        branch=_optional_text(wants.get("branch")),
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
        reports=Reports.from_document(document.get("reports")),
        container=_optional_text(document.get("container")),
        submodules=bool(document.get("submodules")),
        exchange=Exchange.from_answer(document),
        secrets=[SecretUse.from_answer(use) for use in document.get("secrets") or ()],
        encrypted=_optional_text(document.get("sealed_secrets")),
    )


def _env(document: Optional[dict[str, Any]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in (document or {}).items()}


def _seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


def _optional_text(value: Any) -> Optional[str]:
    return None if value is None else str(value)
