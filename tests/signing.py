"""An agent of the tests: signs requests as the protocol says (RFC 9421, RFC 9530), with code of its own.

It shares nothing with the agent program or the server, so that a test compares the three.
"""

import base64
import gzip
import hashlib
import hmac
import itertools
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests

from controlplane.lib import clock

COVERED = '("@method" "@path" "content-digest")'


@dataclass(frozen=True)
class Signed:
    """A request as it goes over the wire; to send it twice is to replay it."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


class AgentClient:
    """An enrolled agent. Heartbeats never go back in time, as the protocol asks."""

    def __init__(self, server: str, *, agent_id: str, key_id: str, secret: bytes) -> None:
        self.server = server
        self.agent_id = agent_id
        self.key_id = key_id
        self.secret = secret
        self._last_heartbeat = 0
        self._sessions = threading.local()

    def signed(
        self,
        path: str,
        body: bytes,
        *,
        method: str = "POST",
        created: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Signed:
        """The request with its signature, not yet sent."""
        created = clock.epoch() if created is None else created
        digest = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
        parameters = f'{COVERED};created={created};keyid="{self.key_id}";nonce="{secrets.token_urlsafe(16)}"'
        base = (
            f'"@method": {method}\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": {parameters}'
        ).encode()
        signature = _base64(hmac.digest(self.secret, base, "sha256"))
        return Signed(
            method,
            path,
            body,
            {
                "Content-Digest": digest,
                "Signature-Input": f"sig1={parameters}",
                "Signature": f"sig1=:{signature}:",
                **(headers or {}),
            },
        )

    def send(self, request: Signed) -> requests.Response:
        """The answer. Each thread has its own connection."""
        session: requests.Session | None = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            session.trust_env = False
        return session.request(
            request.method, self.server + request.path, data=request.body, headers=dict(request.headers), timeout=30
        )

    def post(self, path: str, body: Any, *, created: int | None = None) -> requests.Response:
        """Send JSON to a path under ``/agents/{agent_id}``."""
        return self.send(self.json_request(path, body, created=created))

    def json_request(self, path: str, body: Any, *, created: int | None = None) -> Signed:
        """The same, not yet sent. Bytes go as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self.signed(f"/agents/{self.agent_id}{path}", data, created=created, headers=headers)

    def heartbeat_request(self, *, running: Any = (), free_slots: int = 1, **members: Any) -> Signed:
        """A heartbeat, not yet sent."""
        self._last_heartbeat = max(clock.epoch(), self._last_heartbeat + 1)
        report = {
            "agent_id": self.agent_id,
            "cpu_percent": 12.5,
            "memory_percent": 40.0,
            "disk_percent": 55.1,
            "jobs_queued": 0,
            "jobs_completed": 0,
            "uptime_seconds": 60,
            "free_slots": free_slots,
            "running": running,
            "config_version": 1,
            **members,
        }
        return self.json_request("/heartbeat", report, created=self._last_heartbeat)

    def heartbeat(self, **members: Any) -> dict[str, Any]:
        """Send a heartbeat and return the answer, which must be a good one."""
        return _good(self.send(self.heartbeat_request(**members)))

    def take(self) -> dict[str, Any]:
        """Heartbeat with one free slot and acknowledge the one job that comes; returns the assignment."""
        (assignment,) = self.heartbeat()["jobs"]
        _good(self.start(assignment))
        return dict(assignment)

    def start(self, assignment: Mapping[str, Any], **members: Any) -> requests.Response:
        return self.post(f"/jobs/{assignment['job_id']}/start", {"attempt": assignment["attempt"], **members})

    def define(self, assignment: Mapping[str, Any], text: str, *, commit: str = "c" * 40) -> requests.Response:
        body = {"attempt": assignment["attempt"], "commit": commit, "text": text}
        return self.post(f"/jobs/{assignment['job_id']}/definition", body)

    def log_request(
        self, assignment: Mapping[str, Any], sequence: int, data: bytes, *, encoding: str | None = None
    ) -> Signed:
        """A chunk of the log, not yet sent; `data` is the body as it goes over the wire."""
        headers = {"Content-Type": "application/octet-stream"}
        if encoding:
            headers["Content-Encoding"] = encoding
        path = f"/agents/{self.agent_id}/jobs/{assignment['job_id']}/log/{assignment['attempt']}/{sequence}"
        return self.signed(path, data, headers=headers)

    def log(
        self, assignment: Mapping[str, Any], sequence: int, data: bytes, *, packed: bool = False
    ) -> requests.Response:
        body, encoding = (gzip.compress(data), "gzip") if packed else (data, None)
        return self.send(self.log_request(assignment, sequence, body, encoding=encoding))

    def log_all(self, assignment: Mapping[str, Any], data: bytes, *, size: int = 100_000) -> int:
        """Send all of it in chunks; returns how many."""
        for sequence in itertools.count():
            chunk = data[sequence * size : (sequence + 1) * size]
            if not chunk:
                return sequence
            _good(self.log(assignment, sequence, chunk))
        raise AssertionError("unreachable")

    def report_request(self, assignment: Mapping[str, Any], number: int, data: bytes, **headers: str | None) -> Signed:
        """Test results, not yet sent; with headers by their names, ``Report_Kind="cobertura"``, None for none."""
        chosen = {"Report_Kind": "junit", "Report_File": "report.xml", "Report_Commit": "c" * 40, **headers}
        path = f"/agents/{self.agent_id}/jobs/{assignment['job_id']}/reports/{assignment['attempt']}/{number}"
        sent = {name.replace("_", "-"): value for name, value in chosen.items() if value is not None}
        return self.signed(path, data, headers={"Content-Type": "application/octet-stream", **sent})

    def report(
        self, assignment: Mapping[str, Any], number: int, data: bytes, **headers: str | None
    ) -> requests.Response:
        return self.send(self.report_request(assignment, number, data, **headers))

    def finish(self, assignment: Mapping[str, Any], **members: Any) -> requests.Response:
        return self.post(f"/jobs/{assignment['job_id']}/finish", finish_body(assignment, **members))


def finish_body(assignment: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """What an agent says whose job has ended well, unless `members` say otherwise."""
    return {
        "attempt": assignment["attempt"],
        "exit_code": 0,
        "error_message": None,
        "steps": [],
        "log_chunks": 0,
        "commit": "c" * 40,
        **members,
    }


def enrolled(server: str, *, labels: Sequence[str] = (), name: str = "build-1", slots: int = 4) -> AgentClient:
    """A new agent of the control plane."""
    from apps.accounts.policies import ROLES
    from apps.agents.services import agent_enrol, enrolment_token_create
    from controlplane.lib.actor import Actor

    admin = Actor("user", "01ka0admn00000000000000000", "admin", frozenset(ROLES["admin"]))
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=admin)
    credentials = agent_enrol(token=token, name=name, region="eu", labels=labels, slots=slots)
    return AgentClient(server, agent_id=credentials.agent_id, key_id=credentials.key_id, secret=credentials.secret)


def _good(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
