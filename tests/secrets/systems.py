"""Systems that hold copies of secrets, over HTTP: Vault, GitHub, Kubernetes and the receiver of a webhook.

They answer as the documentation of each says, as far as a rotation asks. `requests` are those that were let in.
"""

import base64
import hashlib
import hmac
import itertools
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nacl.public import PrivateKey, SealedBox

VAULT_TOKEN = "hvs.token-of-vault"
GITHUB_TOKEN = "ghp_token-of-github"
KUBERNETES_TOKEN = "token-of-a-service-account"
REGISTRY_TOKEN = "token-of-the-registrys-admin"
WEBHOOK_KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()

Answer = tuple[int, Any]


@dataclass
class Systems:
    """What the systems hold. `vault` is `{path: [version, members]}`; `github` what was in the boxes, opened."""

    url: str = ""
    vault: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    github: dict[str, str] = field(default_factory=dict)
    github_times: dict[str, str] = field(default_factory=dict)
    kubernetes: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    received: dict[str, str] = field(default_factory=dict)
    webhook_value: str | None = None
    renewals: int = 0
    registry: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: Callable[[str, str], Answer | None] = lambda _method, _path: None

    def __post_init__(self) -> None:
        self.github_key = PrivateKey.generate()
        self._ticks = itertools.count()

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        self.requests.append(f"{method} {path}")
        refused = self.refuse(method, path)
        if refused:
            return refused
        for pattern, token, handle in (
            (r"/v1/(.+)", headers.get("X-Vault-Token") == VAULT_TOKEN, self._vault),
            (r"/registry/(.+)", True, self._registry),
            (r"/repos/acme/app/(.+)", headers.get("Authorization") == f"Bearer {GITHUB_TOKEN}", self._github),
            (
                r"/api/v1/namespaces/apps/secrets/(.+)",
                headers.get("Authorization") == f"Bearer {KUBERNETES_TOKEN}",
                self._kubernetes,
            ),
            (r"/hook(.*)", self._is_signed(headers, body), self._webhook),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return handle(method, found[1], headers, body) if token else (403, {"message": "no"})
        return 404, {"message": "Not Found"}

    def _vault(self, method: str, path: str, _headers: Any, body: bytes) -> Answer:
        if path == "auth/token/renew-self":
            self.renewals += 1
            return 200, {"auth": {"renewable": True}}
        path = path.removeprefix("secret/data/")
        version, members = self.vault.get(path, (0, {}))
        if method == "GET":
            if not version:
                return 404, {"errors": []}
            return 200, {"data": {"data": members, "metadata": {"version": version, "destroyed": False}}}
        asked = json.loads(body)
        if asked["options"]["cas"] != version:
            return 400, {"errors": ["check-and-set parameter did not match the current version"]}
        self.vault[path] = (version + 1, asked["data"])
        return 200, {"data": {"version": version + 1}}

    def _github(self, method: str, path: str, _headers: Any, body: bytes) -> Answer:
        place, _, name = path.rpartition("/secrets/")
        if not re.fullmatch(r"actions|environments/[a-z%0-9A-Z]+", place):
            return 404, {"message": "Not Found"}
        if name == "public-key":
            return 200, {
                "key_id": "568250167242549743",
                "key": base64.b64encode(bytes(self.github_key.public_key)).decode(),
            }
        key = f"{place}/{name}"
        if method == "GET":
            if key not in self.github:
                return 404, {"message": "Not Found"}
            return 200, {"name": name, "created_at": "2026-01-01T00:00:00Z", "updated_at": self.github_times[key]}
        asked = json.loads(body)
        assert asked["key_id"] == "568250167242549743"
        is_new = key not in self.github
        self.github[key] = SealedBox(self.github_key).decrypt(base64.b64decode(asked["encrypted_value"])).decode()
        # Each change is in another second.
        tick = next(self._ticks)
        self.github_times[key] = f"2026-01-01T{tick // 3600 % 24:02}:{tick // 60 % 60:02}:{tick % 60:02}Z"
        return (201, {}) if is_new else (204, None)

    def _kubernetes(self, method: str, name: str, headers: Any, body: bytes) -> Answer:
        if name not in self.kubernetes:
            return 404, {"kind": "Status", "code": 404}
        version, members = self.kubernetes[name]
        if method == "PATCH":
            assert headers["Content-Type"] == "application/merge-patch+json"
            asked = json.loads(body)
            if asked["metadata"]["resourceVersion"] != str(version):
                return 409, {"kind": "Status", "code": 409}
            version, members = version + 1, {**members, **asked["data"]}
            self.kubernetes[name] = (version, members)
        return 200, {"kind": "Secret", "metadata": {"name": name, "resourceVersion": str(version)}, "data": members}

    def _webhook(self, _method: str, _path: str, headers: Any, body: bytes) -> Answer:
        event = json.loads(body)
        # Receivers know an event that comes again by its id.
        if self.received.setdefault(headers["webhook-id"], event["type"]) != event["type"]:
            return 400, None
        value = event["data"]["value"]
        if event["type"].endswith((".apply", ".revert")):
            self.webhook_value = value
        elif event["type"].endswith(".verify") and value != self.webhook_value:
            return 409, None
        return 204, None

    def _registry(self, method: str, path: str, headers: Any, _body: bytes) -> Answer:
        """Named keys, as the example in docs/rotation.md has them."""
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        what, _, name = path.partition("/")
        if token not in (self.registry.values() if what == "packages" else (REGISTRY_TOKEN,)):
            return 401, None
        if method == "PUT":
            self.registry[name] = f"{name}.{secrets.token_hex(8)}"
            return 200, {"key": self.registry[name]}
        if method == "DELETE" and self.registry.pop(name, None) is None:
            return 404, None
        return 200, {}

    def _is_signed(self, headers: Any, body: bytes) -> bool:
        """By the rules of Standard Webhooks."""
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        key = base64.b64decode(WEBHOOK_KEY.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return bool(headers.get("webhook-signature") == f"v1,{expected}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32


@contextmanager
def systems_running() -> Iterator[Systems]:
    """The systems on a port of loopback."""
    systems = Systems()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                status, answer = systems.answer(self.command, self.path, self.headers, body)
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    systems.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield systems
    finally:
        server.shutdown()
        server.server_close()
