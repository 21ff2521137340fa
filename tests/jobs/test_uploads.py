"""The agent's own code stores and fetches archives: with the real control plane, in S3 and in a directory."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import archive, store, transfer
from agent.archive import pack
from agent.attempt import Attempt
from agent.client import Client
from agent.exchange import Artifacts
from agent.identity import Identity
from agent.job_artifacts import artifact_report
from agent.protocol import Assignment, ControlPlane
from agent.storage_requests import StorageRequests, described
from agent.store import Archives, RemoteStore
from tests.jobs.archives import MIB, Transfers
from tests.jobs.test_artifacts import directory, needs, storage, transfers  # noqa: F401 — fixtures


@pytest.fixture
def agents_store(transfers: Transfers, tmp_path: Path) -> Iterator[RemoteStore]:  # noqa: F811
    """The store of a running attempt, as the agent program uses it."""
    sender = transfers.agent
    client = Client(sender.server)
    client.identity = Identity(url=sender.server, agent_id=sender.agent_id, key_id=sender.key_id, key=sender.secret)
    attempt = Attempt(Assignment(transfers.assignment["job_id"], transfers.assignment["attempt"]), lambda: None)
    requests = StorageRequests(ControlPlane(client), attempt)
    yield RemoteStore(requests, Archives(tmp_path / "archives"), attempt.job)
    client.addresses.used.close_idle()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace whose archive has several parts and pieces."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(12 * MIB))
    return folder


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as S3 takes them."""
    monkeypatch.setattr(archive, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(store, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr("agent.storage_requests.PART_BYTES", 5 * MIB)
    monkeypatch.setattr(transfer, "PIECE_BYTES", 2 * MIB)


@pytest.mark.usefixtures("_small_parts")
def test_the_agent_stores_and_fetches_archives_in_parts(
    storage: Any,  # noqa: F811
    transfers: Transfers,  # noqa: F811
    needs: Any,  # noqa: F811
    agents_store: RemoteStore,
    workspace: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    packed = pack(workspace, ["big"], agents_store.archive("artifacts"))
    assert len(packed.parts) == 3
    report = artifact_report(packed, Artifacts(["big"]))
    for _ in range(2):
        agents_store.artifact_put(agents_store.archive("artifacts"), report, lambda: None)
    needs(transfers)
    (found,) = agents_store.artifacts(["build"])
    with agents_store.fetched(found, lambda: None) as fetched:
        archive.unpack(fetched, fetched.parent)
        assert (fetched.parent / "big").read_bytes() == (workspace / "big").read_bytes()

    assert agents_store.cache("deps-1", ["deps-"]) is None
    assert agents_store.cache_put(
        agents_store.archive("artifacts"), {"key": "deps-1", **described(packed)}, lambda: None
    )
    assert not agents_store.cache_put(
        agents_store.archive("artifacts"), {"key": "deps-1", **described(packed)}, lambda: None
    )
    cache = agents_store.cache("deps-2", ["deps-"])
    assert cache is not None
    assert (cache.key, cache.is_exact) == ("deps-1", False)
    with agents_store.fetched(cache, lambda: None) as fetched:
        assert fetched.stat().st_size == packed.size
    assert "Signature=" not in caplog.text
    assert found.source.url not in caplog.text
