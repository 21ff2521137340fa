"""The artifacts and caches of the fake control plane. Its answers name URLs of a `FakeStorage`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.agent.storage import FakeStorage

_ROUTE = re.compile(
    r"/agents/\w+/jobs/(?P<job_id>\w+)/(?P<kind>artifacts|caches|upload)/(?P<attempt>\d+)"
    r"(?:/(?P<verb>fetch|restore|save)|/(?P<id>[\w-]+)/complete)?"
)


@dataclass
class Stored:
    """An artifact or a cache. It is complete when its parts are one object."""

    id: str
    owner: str
    report: dict[str, Any]
    is_complete: bool = False

    @property
    def parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self.report["parts"]
        return parts


@dataclass
class FakeStore:
    """Keeps what jobs report; `refusal` is the answer to all of it, if there is one."""

    storage: FakeStorage
    stored: dict[str, Stored] = field(default_factory=dict)
    refusal: tuple[int, dict[str, Any]] | None = None
    extensions: list[str] = field(default_factory=list)
    extension_answer: tuple[int, dict[str, Any]] = (200, {})

    def match(self, route: str) -> re.Match[str] | None:
        return _ROUTE.fullmatch(route)

    def artifact(self, owner: str) -> Stored:
        return next(one for one in self.stored.values() if one.owner == owner and "files" in one.report)

    def answer(self, owner: str, found: re.Match[str], document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if found["kind"] == "upload":
            self.extensions.append(document["text"])
            return self.extension_answer
        if self.refusal is not None:
            return self.refusal
        if found["id"]:
            return self._complete(self.stored[found["id"]])
        if found["verb"] == "fetch":
            return 200, {"artifacts": [self._artifact(one) for one in self._of(document["jobs"])]}
        if found["verb"] == "restore":
            return 200, self._restored(document["key"], document["restore_keys"])
        return self._begin(owner, found["kind"], document)

    def _begin(self, owner: str, kind: str, report: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = re.sub(r"\W", "-", f"{kind}-{owner}-{report.get('key', '')}")
        if kind == "caches" and name in self.stored and self.stored[name].is_complete:
            return 200, {"exists": True, "cache_id": None, "uploads": []}
        stored = self.stored.setdefault(name, Stored(name, owner, report))
        missing = [number for number in range(1, len(stored.parts) + 1) if not self.storage.has(name, number)]
        uploads = [
            {"part": one.part, "method": one.method, "url": one.url, "headers": one.headers}
            for one in (
                self.storage.upload(name, number, stored.parts[number - 1]["sha256"]) for number in missing[:100]
            )
        ]
        if kind == "caches":
            return 200, {"exists": False, "cache_id": name, "uploads": uploads}
        return 200, {"artifact_id": name, "uploads": uploads}

    def _complete(self, stored: Stored) -> tuple[int, dict[str, Any]]:
        if not all(self.storage.has(stored.id, number) for number in range(1, len(stored.parts) + 1)):
            return 409, {"code": "upload_incomplete", "detail": "Parts are missing."}
        if not stored.is_complete:
            self.storage.join(stored.id)
        stored.is_complete = True
        return 200, {}

    def _of(self, nodes: list[str]) -> list[Stored]:
        return [one for one in self.stored.values() if one.owner in nodes and one.is_complete and "files" in one.report]

    def _artifact(self, one: Stored) -> dict[str, Any]:
        return {"name": one.report["name"], "node": one.owner, **self._download(one)}

    def _restored(self, key: str, restore_keys: list[str]) -> dict[str, Any]:
        caches = {one.report["key"]: one for one in self.stored.values() if "key" in one.report and one.is_complete}
        nothing = dict.fromkeys(("key", "size", "sha256", "media", "url"))
        if key in caches:
            return {"hit": "exact", "key": key, **self._download(caches[key])}
        for prefix in restore_keys:
            for other, one in caches.items():
                if other.startswith(prefix):
                    return {"hit": "partial", "key": other, **self._download(one)}
        return {"hit": "none", **nothing, "headers": {}}

    def _download(self, one: Stored) -> dict[str, Any]:
        return {
            "size": one.report["size"],
            "sha256": one.report["sha256"],
            "media": one.report["media"],
            "url": self.storage.url_of(one.id),
            "headers": {"X-Extra": "1"},
        }
