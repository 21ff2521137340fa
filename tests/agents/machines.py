"""Machines of the tests: they sign as the agent program does, and send what a test gives them, right or wrong."""

import itertools
import json
import secrets
from typing import Any

import requests

from agent.signing import signature_headers
from controlplane.lib import clock
from tests.clients import Client

REPORT = {
    "cpu_percent": 12.34,
    "memory_percent": 50,
    "disk_percent": 88.8,
    "jobs_queued": 0,
    "jobs_completed": 7,
    "uptime_seconds": 3600.7,
    "free_slots": 2,
    "running": [],
    "config_version": 1,
}


class Machine(Client):
    """An agent's machine, with the identity that enrolment gave it."""

    def __init__(self, server: str, agent_id: str, key_id: str, key: bytes) -> None:
        super().__init__(server)
        self.agent_id = agent_id
        self.key_id = key_id
        self.key = key
        # Every heartbeat is one second later than the last one, however many there are.
        self._created = itertools.count(clock.epoch())

    def signed(self, method: str, path: str, body: bytes = b"", **changes: Any) -> dict[str, str]:
        """The headers of a request that is signed as it should be, except for `changes`."""
        arguments: dict[str, Any] = {
            "method": method,
            "path": path,
            "body": body,
            "key_id": self.key_id,
            "key": self.key,
            "created": clock.epoch(),
            "nonce": secrets.token_urlsafe(16),
        }
        return signature_headers(**(arguments | changes))

    def send(self, method: str, path: str, body: bytes = b"", **changes: Any) -> requests.Response:
        """Send a signed request."""
        return self.request(method, path, data=body, headers=self.signed(method, path, body, **changes))

    def config(self) -> requests.Response:
        return self.send("GET", f"/agents/{self.agent_id}/config")

    def heartbeat(self, **members: Any) -> requests.Response:
        """Send a heartbeat."""
        created = members.pop("created", None) or next(self._created)
        return self.send("POST", self.heartbeat_path, self.heartbeat_body(**members), created=created)

    @property
    def heartbeat_path(self) -> str:
        return f"/agents/{self.agent_id}/heartbeat"

    def heartbeat_body(self, **members: Any) -> bytes:
        return json.dumps({"agent_id": self.agent_id, **REPORT, **members}).encode()
