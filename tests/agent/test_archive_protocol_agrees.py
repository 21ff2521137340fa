"""What agents send about artifacts and caches, compared with the control plane's tables of fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import archive
from agent.archive import pack
from agent.attempt import Attempt
from agent.exchange import Artifacts
from agent.job_artifacts import artifact_report
from agent.protocol import ControlPlane
from agent.storage_requests import FoundCache, StorageRequests, described
from apps.jobs.serializers import agent_artifacts as server
from controlplane.http.fields import Object
from controlplane.lib.presigned import PART_LEAST, PART_MOST, SINGLE_BELOW
from tests.agent.test_protocol_agrees import ATTEMPT, Recorder, example


def ask(answer: dict[str, Any], request: Callable[[StorageRequests], Any], table: Object) -> Any:
    """What the agent makes of the answer. The table must take its request."""
    client = Recorder(answer)
    understood = request(StorageRequests(ControlPlane(client), Attempt(ATTEMPT, lambda: None)))  # type: ignore[arg-type]
    sent = json.loads(client.sent)
    assert set(table.check(sent)) >= set(sent)
    return understood


@pytest.fixture
def packed(tmp_path: Path) -> archive.Packed:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "file").write_text("x")
    return pack(tmp_path / "workspace", ["file"], tmp_path / "archive")


def test_the_sizes_of_parts_fit() -> None:
    assert archive.PART_BYTES == SINGLE_BELOW
    assert PART_LEAST <= archive.PART_BYTES <= PART_MOST
    assert archive._LISTED_MOST == server.FILES_MOST


@pytest.mark.parametrize("expire_in", [None, server.EXPIRE_LEAST])
def test_an_artifact_is_described_and_sent(packed: archive.Packed, expire_in: int | None) -> None:
    report = artifact_report(packed, Artifacts(["file"], expire_in))
    answer = example(server.ARTIFACT_ANSWER)
    opened = ask(answer, lambda requests: requests.artifact_open(report), server.ARTIFACT)
    (upload,) = opened.uploads
    assert (opened.upload_id, upload.part, upload.method, upload.headers) == ("text", 1, "PUT", {"NAME": "text"})
    assert ask(example(server.COMPLETE_ANSWER), lambda requests: requests.artifact_complete("id"), server.COMPLETE)


def test_artifacts_of_other_jobs_are_fetched() -> None:
    (one,) = ask(example(server.FETCH_ANSWER), lambda requests: requests.artifacts_fetch(["build"]), server.FETCH)
    assert (one.name, one.node, one.source.size, one.source.url) == ("text", "text", 1, "text")


def test_caches_are_restored_and_saved(packed: archive.Packed) -> None:
    answer = {**example(server.RESTORE_ANSWER), "hit": "exact"}
    found = ask(answer, lambda requests: requests.cache_find("a", ["b"]), server.RESTORE)
    assert isinstance(found, FoundCache)
    assert found.is_exact
    nothing = dict.fromkeys(server.RESTORE_ANSWER.members) | {"hit": "none", "headers": {}}
    assert ask(nothing, lambda requests: requests.cache_find("a", []), server.RESTORE) is None
    report = {"key": "a", **described(packed)}
    answer = {**example(server.SAVE_ANSWER), "exists": False}
    assert ask(answer, lambda requests: requests.cache_open(report), server.SAVE).upload_id == "text"
    assert ask({**answer, "exists": True}, lambda requests: requests.cache_open(report), server.SAVE) is None
