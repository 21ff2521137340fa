"""DynamoDB fails while artifacts and caches are stored, taken and deleted."""

import io
from typing import Any

import pytest
from django.core.files.storage import storages

from apps.jobs.models import Archive
from apps.jobs.selectors.artifacts import job_artifacts
from apps.jobs.services.artifacts import artifact_complete, artifact_delete, artifact_store
from apps.jobs.services.caches import cache_complete, cache_restore, cache_save, caches_delete
from apps.jobs.services.uploads import ArchiveReport
from controlplane.lib.presigned import Part
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.jobs.archives import sha256

DATA = b"an archive"
REPORT = ArchiveReport(len(DATA), sha256(DATA), [Part(len(DATA), sha256(DATA))], "application/x-tar+gzip")

scenario = Scenarios(prepared_once=True)


def _attempt(world: World) -> dict[str, Any]:
    return {"agent": world.agent, "job_id": world.running(), "attempt": 1}


def _artifact(attempt: dict[str, Any]) -> Any:
    artifact, _ = artifact_store(
        **attempt, name="a", report=REPORT, files=[], files_total=None, expire_in=3600, base="http://x/"
    )
    return artifact


def _cache(attempt: dict[str, Any]) -> Any:
    return cache_save(**attempt, key="deps", report=REPORT, base="http://x/")[0]


def _send(archive: Archive) -> None:
    storage: Any = storages["artifacts"]
    storage.part_write(str(archive.stored_name), 1, REPORT.parts[0], io.BytesIO(DATA))


@scenario()
def begin_an_artifact(world: World) -> Act:
    attempt = _attempt(world)
    return lambda: _artifact(attempt)


@scenario()
def complete_an_artifact(world: World) -> Act:
    attempt = _attempt(world)
    artifact = _artifact(attempt)

    def act() -> None:
        _send(artifact)
        artifact_complete(**attempt, artifact_id=artifact.artifact_id)

    return act


@scenario("artifact_not_found")
def delete_an_artifact(world: World) -> Act:
    attempt = _attempt(world)
    artifact = _artifact(attempt)
    _send(artifact)
    artifact_complete(**attempt, artifact_id=artifact.artifact_id)
    assert job_artifacts(attempt["job_id"])
    return lambda: artifact_delete(actor=ADMIN, artifact_id=artifact.artifact_id)


@scenario()
def begin_a_cache(world: World) -> Act:
    attempt = _attempt(world)
    return lambda: _cache(attempt)


@scenario()
def complete_a_cache(world: World) -> Act:
    attempt = _attempt(world)
    cache = _cache(attempt)

    def act() -> None:
        _send(cache)
        cache_complete(**attempt, cache_id=cache.entry)

    return act


@scenario()
def restore_a_cache_that_was_used_long_ago(world: World) -> Act:
    attempt = _attempt(world)
    cache = _cache(attempt)
    _send(cache)
    cache_complete(**attempt, cache_id=cache.entry)
    world.wait(2 * 3600)
    return lambda: cache_restore(**attempt, key="other", restore_keys=["de"])


@scenario()
def delete_the_caches_of_a_pipeline(world: World) -> Act:
    attempt = _attempt(world)
    cache = _cache(attempt)
    _send(cache)
    cache_complete(**attempt, cache_id=cache.entry)
    return lambda: caches_delete(actor=ADMIN, pipeline="self")


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("tried", list(scenario), ids=str)
def test_artifacts_and_caches_survive_a_fault_at_every_call(
    tables: None, tried: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(tried, kind, lasting=lasting)
