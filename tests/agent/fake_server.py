"""A fake control plane: it serves the agent protocol over real HTTP, verifies signatures and fails on demand."""

from __future__ import annotations

import base64
import gzip
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms

from agent import clock
from tests.agent.fake_store import FakeStore

TOKEN = "hce_only-for-tests"
LOSE = "the answer is lost"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass
class FakeJob:
    """A job and everything that the agent has reported about it."""

    job_id: str
    repository: str
    git_ref: str
    definition: dict[str, Any] | None
    definition_answer: tuple[int, dict[str, Any]]
    env: dict[str, str]
    timeout: float | None
    log_limit: int | None = None
    # The reports that came: by number, the kind, the path, and the content.
    reported: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)
    deployment_targets: list[str] = field(default_factory=list)
    # For which its steps asked for tokens.
    audiences: list[str] = field(default_factory=list)
    # Members of the answer to a start that only some jobs have.
    extra: dict[str, Any] = field(default_factory=dict)
    definition_path: str | None = ".hybrid-ci.yml"
    # What the control plane wants to know of the commit before it answers with the definition.
    wants: dict[str, Any] | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    # The values of secrets that are sent, and the keys that the agent has sent for them.
    secrets: dict[str, str] | None = None
    keys: list[str] = field(default_factory=list)
    # With what the repository is fetched, if it is not public.
    fetch: dict[str, str] | None = None
    # What the secrets are encrypted for, if not for the attempt.
    encrypted_for: str | None = None
    attempt: int = 1
    assigned: bool = False
    starts: int = 0
    command: str | None = None
    command_in_log_answers: bool = True
    stale: bool = False
    chunks: dict[int, bytes] = field(default_factory=dict)
    sent: dict[str, Any] | None = None
    finish: dict[str, Any] | None = None
    finishes: int = 0

    @property
    def log(self) -> bytes:
        return b"".join(data for _, data in sorted(self.chunks.items()))

    @property
    def text(self) -> str:
        """The log without the commands that it shows, so that what a step prints is not confused with its script."""
        lines = self.log.decode(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("── $ ", "── > ")))


@dataclass
class Fault:
    """The next `times` requests whose path matches get this status. With `LOSE` they take effect without an answer.

    Without a `code` the answer is a page, as something else than the control plane sends it.
    """

    pattern: str
    answer: int | str
    times: int
    code: str
    headers: dict[str, str] = field(default_factory=dict)


class FakeControlPlane:
    """Assigns the jobs that a test adds, and records what the agent reports.

    `problems` collects the agent's breaches of the protocol. It must be empty at the end of a test.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.jobs: dict[str, FakeJob] = {}
        self.heartbeats: list[dict[str, Any]] = []
        self.enrolments: dict[str, dict[str, Any]] = {}
        self.enrol_requests: list[tuple[str | None, dict[str, Any]]] = []
        self.requests: list[tuple[str, str]] = []
        # When each request arrived, by the monotonic clock, and its path.
        self.arrivals: list[tuple[float, str]] = []
        self.faults: list[Fault] = []
        self.problems: list[str] = []
        # Artifacts and caches, for the tests that have any.
        self.store: FakeStore | None = None
        self.token_answer: tuple[int, dict[str, Any]] = (200, {"token": "head.body.signature"})
        self.is_unreachable = False
        self.config: dict[str, Any] = {"config_version": 1, "slots": 1}
        self.keys: dict[str, bytes] = {}
        self.expired = 0
        self.interval = 1
        # Seconds by which the control plane's clock is ahead of the machine's.
        self.clock_ahead = 0
        # What precedes the usual paths, too.
        self.moved = "/never-moved"
        # The paths of its other addresses.
        self.more_prefixes: list[str] = []
        self._created = 0
        self._nonces: set[str] = set()
        self._changed = threading.Condition()
        handler = type("Handler", (_Handler,), {"plane": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{prefix}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # For tests

    def add_job(
        self,
        repository: str,
        git_ref: str = "main",
        *,
        run: str | None = None,
        steps: list[dict[str, Any]] | None = None,
        from_repository: bool = False,
        definition_answer: tuple[int, dict[str, Any]] = (500, {}),
        env: dict[str, str] | None = None,
        pipeline_env: dict[str, str] | None = None,
        timeout: float | None = None,
        container: str | None = None,
        wanted_reports: dict[str, Any] | None = None,
        submodules: bool = False,
        deployment_targets: Sequence[str] = (),
        secret_values: dict[str, str] | None = None,
        files: Sequence[str] = (),
        named: Sequence[str] | None = None,
        fetch: dict[str, str] | None = None,
        **extra: Any,
    ) -> FakeJob:
        """Add a queued job. With `run` it has one step. `extra` are more members of the answer to its start.

        `secret_values` are those that it gets, of which `files` come as files. It names these, or `named`.
        """
        chosen = [{"name": "only", "run": run or "true"}] if steps is None else steps
        complete = [{"env": {}, "timeout": None, **step} for step in chosen]
        definition = {
            "steps": complete,
            "env": pipeline_env or {},
            "timeout": timeout,
            "container": container,
            "submodules": submodules,
            "reports": wanted_reports,
            "secrets": [
                {"name": name, "file": name in files} for name in (secret_values or () if named is None else named)
            ],
        }
        job = FakeJob(
            job_id=f"01k{secrets.token_hex(11)}",
            repository=repository,
            git_ref=git_ref,
            definition=None if from_repository else definition,
            definition_answer=definition_answer,
            env=env or {},
            timeout=timeout,
            deployment_targets=list(deployment_targets),
            extra=extra,
            secrets=secret_values,
            fetch=fetch,
        )
        with self._changed:
            self.jobs[job.job_id] = job
        return job

    def fail(self, pattern: str, answer: int | str, times: int = 1, code: str = "", **headers: str) -> None:
        with self._changed:
            self.faults.append(Fault(pattern, answer, times, code, headers))

    def wait_for(self, condition: Callable[[], Any], timeout: float = 15.0) -> Any:
        """Wait until the condition is true. It is checked after each request."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                value = condition()
                if value:
                    return value
                left = deadline - time.monotonic()
                assert left > 0, "it did not happen in time"
                self._changed.wait(min(left, 0.1))

    def finished(self, job: FakeJob, timeout: float = 15.0) -> dict[str, Any]:
        """Wait for the job's finish report and return it."""
        self.wait_for(lambda: job.finish, timeout)
        assert job.finish is not None
        return job.finish

    def wait_for_output(self, job: FakeJob, text: str, timeout: float = 15.0) -> None:
        """Wait until the job's log contains the text."""
        self.wait_for(lambda: text in job.text, timeout)

    def requeue(self, job: FakeJob) -> None:
        """End the attempt and queue the job again, as an expired lease does."""
        with self._changed:
            job.attempt += 1
            job.assigned = False
            job.chunks.clear()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Answer no request inside the block."""
        self.is_unreachable = True
        yield
        self.is_unreachable = False

    # For the agent

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        """Status, document and headers, or None for no answer."""
        with self._changed:
            try:
                return self._answer(method, path, headers, body)
            finally:
                self._changed.notify_all()

    def _answer(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        self.requests.append((method, path))
        self.arrivals.append((time.monotonic(), path))
        fault = self._fault(path)
        if fault is not None and fault.answer != LOSE:
            problem = {"code": fault.code, "detail": "a fault on demand"}
            return fault.answer, problem if fault.code else b"<html>Blocked</html>", fault.headers
        prefix = next((one for one in (*self.more_prefixes, self.prefix) if path.startswith(f"{one}/")), None)
        if prefix is None:
            return self._broken(f"{path} lacks the prefix")
        route = path[len(prefix) :].removeprefix(self.moved)
        if route == "/agents/enrol":
            status, answer = self._enrol(headers.get("Idempotency-Key"), json.loads(body))
        else:
            refusal = self._verify(method, path, headers, body)
            status, answer = refusal or self._signed(route, headers, body)
        return None if fault is not None else (status, answer, {})

    def _fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, path):
                fault.times -= 1
                return fault
        return None

    def _broken(self, problem: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        self.problems.append(problem)
        return 400, {"code": "broken", "detail": problem}, {}

    def _enrol(self, key: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.enrol_requests.append((key, body))
        if body["token"] != TOKEN:
            return 401, {"code": "enrolment_token_invalid", "detail": "The enrolment token is not valid."}
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,63}", body["name"]):
            errors = [{"field": "name", "message": "must be a name"}]
            return 400, {"code": "invalid_input", "detail": "The request is not valid.", "errors": errors}
        assert key is not None
        if key not in self.enrolments:
            agent_id = f"agent{len(self.enrolments) + 1}"
            key_id = f"{agent_id}.1"
            self.keys[key_id] = secrets.token_bytes(32)
            self.enrolments[key] = {
                "agent_id": agent_id,
                "key_id": key_id,
                "workload_identity_secret": base64.b64encode(self.keys[key_id]).decode(),
            }
        return 201, self.enrolments[key]

    def _verify(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]] | None:
        message = _Message(method, f"http://127.0.0.1{path}", headers)
        verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=_Keys(self.keys))
        # This checks `created` itself.
        verifier.max_clock_skew = timedelta(days=10_000)
        try:
            results = verifier.verify(message, body=body, require_components=("@method", "@path", "content-digest"))
        except InvalidSignature as error:
            return 401, {
                "code": "key_unknown" if "unknown" in str(error) else "signature_invalid",
                "detail": str(error),
            }
        nonce = str(results[0].parameters["nonce"])
        if not re.fullmatch(r"[A-Za-z0-9_-]{16,64}", nonce) or nonce in self._nonces:
            self.problems.append(f"nonce {nonce}")
        self._nonces.add(nonce)
        created = int(results[0].parameters["created"])
        if abs(created - clock.epoch() - self.clock_ahead) > 300:
            self.expired += 1
            return 401, {"code": "signature_expired", "detail": "The signature's time is off."}
        if path.endswith("/heartbeat"):
            if created <= self._created:
                self.problems.append(f"the time of heartbeats went from {self._created} to {created}")
            self._created = created
        return None

    def _signed(self, route: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        if route.endswith("/config"):
            return 200, self._config(route.split("/")[2])
        if route.endswith("/heartbeat"):
            return 200, self._heartbeat(json.loads(body))
        report = re.fullmatch(r"/agents/\w+/jobs/(\w+)/reports/(\d+)/(\d+)", route)
        if report is not None:
            return self._report(self.jobs[report[1]], int(report[2]), int(report[3]), headers, gzip.decompress(body))
        if self.store is not None and (found := self.store.match(route)):
            return self._exchange(self.store, found, json.loads(body))
        match = re.fullmatch(r"/agents/\w+/jobs/(\w+)/(start|definition|finish|token|log/(\d+)/(\d+))", route)
        if match is None:
            self.problems.append(f"no such path: {route}")
            return 404, {"code": "not_found", "detail": "This address does not exist."}
        job = self.jobs[match[1]]
        if match[3] is not None:
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if not re.fullmatch(r"[0-9]{1,9}( [0-9]{1,6}:[0-9]{1,9}){0,100}", headers.get("Log-Times", "")):
                self.problems.append(f"Log-Times {headers.get('Log-Times')}")
            return self._log(job, int(match[3]), int(match[4]), body)
        document = json.loads(body)
        if job.stale or document["attempt"] != job.attempt:
            return 409, {"code": "stale_attempt", "detail": "The attempt no longer belongs to this agent."}
        return getattr(self, f"_{match[2]}")(job, document)

    def _token(self, job: FakeJob, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job.audiences.append(document["audience"])
        return self.token_answer

    def _exchange(self, store: FakeStore, found: re.Match[str], document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job = self.jobs[found["job_id"]]
        if job.stale or int(found["attempt"]) != job.attempt:
            return 409, {"code": "stale_attempt", "detail": "The attempt no longer belongs to this agent."}
        return store.answer(job.extra.get("name", job.job_id), found, document)

    def _config(self, agent_id: str) -> dict[str, Any]:
        key_id = f"{agent_id}.1"
        return {"agent_id": agent_id, "key_id": key_id, "workload_identity_secret": None, "labels": [], **self.config}

    def _heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.heartbeats.append(body)
        running = {(entry["job_id"], entry["attempt"]) for entry in body["running"]}
        # A job that was assigned and not acknowledged is assigned again.
        jobs = [self._assign(job) for job in self._waiting(running)[: body["free_slots"]]]
        commands = [
            {"job_id": job.job_id, "attempt": job.attempt, "wish": job.command}
            for job in self.jobs.values()
            if job.command and (job.job_id, job.attempt) in running
        ]
        return {
            "status": "healthy",
            "next_check_interval": self.interval,
            "config_version": self.config["config_version"],
            "jobs": jobs,
            "wishes": commands,
        }

    def _waiting(self, running: set[tuple[str, int]]) -> list[FakeJob]:
        return [
            job
            for job in self.jobs.values()
            if not job.assigned or (job.starts == 0 and not job.stale and (job.job_id, job.attempt) not in running)
        ]

    def _assign(self, job: FakeJob) -> dict[str, Any]:
        job.assigned = True
        return {"job_id": job.job_id, "attempt": job.attempt}

    def _start(self, job: FakeJob, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job.starts += 1
        job.keys.append(body["secrets_key"])
        return 200, {
            "sealed_secrets": self._encrypted(job, body["secrets_key"]) if job.definition is not None else None,
            **(
                {"sealed_fetch": self._encrypted_for(job, "fetch", body["secrets_key"], job.fetch)} if job.fetch else {}
            ),
            "job_id": job.job_id,
            "attempt": job.attempt,
            "run_id": f"run{job.job_id}",
            "pipeline": "example",
            "repository": job.repository,
            "git_ref": job.git_ref,
            "env": job.env,
            "timeout": job.timeout,
            "definition": job.definition,
            "definition_path": job.definition_path,
            **({"log_limit": job.log_limit} if job.log_limit else {}),
            **({"deployment_targets": job.deployment_targets} if job.deployment_targets else {}),
            **job.extra,
        }

    def _definition(self, job: FakeJob, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = body.pop("secrets_key")
        job.keys.append(key)
        job.sent = body
        job.reports.append(body)
        if job.wants is not None and "trees" not in body:
            return 200, {"wants": job.wants}
        status, answer = job.definition_answer
        return status, {**answer, "sealed_secrets": self._encrypted(job, key)} if job.secrets is not None else answer

    def _encrypted(self, job: FakeJob, key: str) -> str | None:
        if job.secrets is None:
            return None
        document = {"secrets": [{"name": name, "value": value} for name, value in job.secrets.items()]}
        return self._encrypted_for(job, "secrets", key, document)

    def _encrypted_for(self, job: FakeJob, purpose: str, key: str, document: Any) -> str:
        info = job.encrypted_for or f"hybrid-ci {purpose}\0agent1\0{job.job_id}\0{job.attempt}"
        public = X25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
        return base64.b64encode(_SUITE.encrypt(json.dumps(document).encode(), public, info=info.encode())).decode()

    def _log(self, job: FakeJob, attempt: int, sequence: int, data: bytes) -> tuple[int, dict[str, Any]]:
        if job.stale or attempt != job.attempt:
            return 409, {"code": "stale_attempt", "detail": "The attempt no longer belongs to this agent."}
        if len(data) > 100_000 or sequence > len(job.chunks):
            self.problems.append(f"chunk {sequence} of {len(data)} bytes after {len(job.chunks)} chunks")
        if job.chunks.get(sequence, data) != data:
            self.problems.append(f"chunk {sequence} came twice with different bytes")
        job.chunks[sequence] = data
        return 200, {"wish": job.command if job.command_in_log_answers else None}

    def _report(self, job: FakeJob, attempt: int, number: int, headers: Any, data: bytes) -> tuple[int, dict[str, Any]]:
        if job.stale or attempt != job.attempt:
            return 409, {"code": "stale_attempt", "detail": "The attempt no longer belongs to this agent."}
        if job.finish is not None:
            self.problems.append(f"report {number} came after the end")
        if b"broken" in data:
            return 422, {"code": "report_invalid", "detail": "The report is not valid XML."}
        report = (headers["Report-Kind"], headers["Report-File"], data)
        if job.reported.setdefault(number, report) != report:
            self.problems.append(f"report {number} came twice with different content")
        tests = {"total": 3, "failed": 1, "skipped": 0, "coverage": None}
        coverage = {"total": None, "failed": None, "skipped": None, "coverage": 0.875}
        return 200, tests if report[0] == "junit" else coverage

    def _finish(self, job: FakeJob, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        job.finishes += 1
        if job.finish is not None:
            return 200, {"next": None}
        if body["log_chunks"] != len(job.chunks):
            self.problems.append(f"{body['log_chunks']} chunks announced, {len(job.chunks)} came")
        job.finish = body
        waiting = [one for one in self.jobs.values() if not one.assigned] if body["wants_next"] else []
        return 200, {"next": self._assign(waiting[0]) if waiting else None}


@dataclass
class _Message:
    method: str
    url: str
    headers: Any


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys

    def resolve_public_key(self, key_id: str) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise InvalidSignature("The key is unknown.") from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections, which are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    plane: ClassVar[FakeControlPlane]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = None if self.plane.is_unreachable else self.plane.answer(self.command, self.path, self.headers, body)
        if answer is None:
            self.close_connection = True
            return
        status, document, headers = answer
        is_page = isinstance(document, bytes)
        data = document if is_page else json.dumps(document).encode()
        media_type = "text/html" if is_page else "application/json" if status < 400 else "application/problem+json"
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def date_time_string(self, timestamp: float | None = None) -> str:
        moment = clock.epoch() if timestamp is None else timestamp
        return super().date_time_string(int(moment + self.plane.clock_ahead))

    do_GET = do_POST  # noqa: N815 — the name that the base class looks for

    def log_message(self, *args: object) -> None:
        """Keep requests out of the tests' output."""
