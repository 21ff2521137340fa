"""Archives that agents of the tests send and fetch, by the protocol and with code of its own."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.signing import AgentClient

MIB = 1024 * 1024


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def described(*parts: bytes, **members: Any) -> dict[str, Any]:
    """What an agent says of an archive in these parts."""
    return {
        "size": sum(map(len, parts)),
        "sha256": sha256(b"".join(parts)),
        "parts": [{"size": len(part), "sha256": sha256(part)} for part in parts],
        "media": "application/x-tar+gzip",
        **members,
    }


@dataclass
class Transfers:
    """An agent's artifacts and caches of an attempt."""

    agent: AgentClient
    assignment: Mapping[str, Any]
    sent: list[int] = field(default_factory=list)
    # Another process sends the same at the same time, and may complete it while this one still sends a part.
    is_racing: bool = False

    def post(self, path: str, body: Any) -> requests.Response:
        """To a path such as ``artifacts`` or ``caches/save``, with the attempt in its place."""
        first, _, rest = path.partition("/")
        number = self.assignment["attempt"]
        return self.agent.post(f"/jobs/{self.assignment['job_id']}/{first}/{number}{f'/{rest}' if rest else ''}", body)

    def good(self, path: str, body: Any) -> dict[str, Any]:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def artifact_body(self, *parts: bytes, name: str = "reports", **members: Any) -> dict[str, Any]:
        files = members.pop("files", [{"path": "out/report.xml", "size": 3, "mode": 0o644}])
        return described(*parts, name=name, files=files, **members)

    def artifact(self, *parts: bytes, complete: bool = True, **members: Any) -> str:
        """Store an artifact, as the protocol says; returns its id."""
        body = self.artifact_body(*parts, **members)
        answer = self._send_all(lambda: self.good("artifacts", body), parts)
        if complete:
            assert self.good(f"artifacts/{answer['artifact_id']}/complete", {}) == {}
        return str(answer["artifact_id"])

    def cache(self, key: str, *parts: bytes) -> bool:
        """Store a cache; False if there is one with this key."""
        body = described(*parts, key=key)
        answer = self._send_all(lambda: self.good("caches/save", body), parts)
        if answer["exists"]:
            return False
        self.good(f"caches/{answer['cache_id']}/complete", {})
        return True

    def restore(self, key: str, *restore_keys: str) -> dict[str, Any]:
        return self.good("caches/restore", {"key": key, "restore_keys": list(restore_keys)})

    def restored(self, key: str, *restore_keys: str) -> bytes | None:
        """The content of the cache that is found."""
        found = self.restore(key, *restore_keys)
        return None if found["hit"] == "none" else fetched(found)

    def _send_all(self, ask: Callable[[], dict[str, Any]], parts: Sequence[bytes]) -> dict[str, Any]:
        while (answer := ask())["uploads"]:
            for upload in answer["uploads"]:
                status = sent(upload, parts[upload["part"] - 1])
                assert status == 200 or (status == 404 and self.is_racing)
                self.sent.append(upload["part"])
        return answer


def sent(upload: Mapping[str, Any], data: bytes) -> int:
    """Send a part to where the control plane said; returns the status."""
    return requests.request(
        upload["method"], upload["url"], data=data, headers=upload["headers"], timeout=30
    ).status_code


def fetched(download: Mapping[str, Any]) -> bytes:
    """What is at a download's URL, which must be what the control plane says."""
    answer = requests.get(download["url"], headers=download["headers"], timeout=30)
    assert answer.status_code == 200, answer.text
    assert (len(answer.content), sha256(answer.content)) == (download["size"], download["sha256"])
    return answer.content
