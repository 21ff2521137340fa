"""Finished logs in S3, as on AWS: the same bytes as from chunks, in slices, archived once."""

import gzip
import random
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import storages
from django.test import RequestFactory
from django.urls import set_script_prefix

from apps.jobs.models import Job, LogChunk
from apps.jobs.selectors import job_get
from apps.jobs.serializers.jobs import JobSerializer
from apps.jobs.services import log_archive, log_archives, logs_archive
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import CloudServices
from tests.jobs.test_job_log import log_slice, whole
from tests.signing import AgentClient

DATA = random.Random(3).randbytes(3_000_000)


@pytest.fixture
def job_id(make_job: Callable[..., str]) -> str:
    return make_job()


@pytest.fixture
def ended(cloud_services: CloudServices, job_id: str, agent: AgentClient) -> str:
    """A job that has printed DATA and ended; its log is still in chunks."""
    assignment = agent.take()
    agent.finish(assignment, log_chunks=agent.log_all(assignment, DATA))
    return job_id


def first_part(data: bytes) -> bytes:
    """What the first response has of it: whole lines, up to 1 MB."""
    return data if len(data) <= 1_000_000 else data[: data.rfind(b"\n", 0, 1_000_000) + 1]


def objects(services: CloudServices) -> list[str]:
    """The names of the logs; each has an index beside it."""
    names = {entry["Key"] for entry in services.s3.list_objects_v2(Bucket=services.bucket).get("Contents", ())}
    logs = sorted(name for name in names if not name.endswith(".index"))
    assert names == {*logs, *(f"{name}.index" for name in logs)}
    return logs


@contextmanager
def s3_reads() -> Iterator[list[int]]:
    """How many bytes S3 hands out at each reading of this block, in any thread."""
    sizes: list[int] = []

    def after(parsed: dict[str, Any], **_: Any) -> None:
        sizes.append(int(parsed["ContentLength"]))

    storage: Any = storages["logs"]
    # The storage has a client for each thread that uses it; the server's are made from this session on.
    made = storage._create_session

    def session() -> Any:
        found = made()
        found.events.register("after-call.s3.GetObject", after)
        return found

    storage._create_session = session
    try:
        yield sizes
    finally:
        storage._create_session = made


def test_the_log_reads_the_same_from_chunks_and_from_s3(
    viewer: Client, ended: str, cloud_services: CloudServices
) -> None:
    assert whole(viewer, ended) == DATA
    assert objects(cloud_services) == []
    assert logs_archive() == 1
    (name,) = objects(cloud_services)
    assert name == job_get(ended).log_stored
    assert whole(viewer, ended) == DATA
    for offset in (0, 1, len(DATA) - 1):
        assert log_slice(viewer, ended, offset)[0] == first_part(DATA[offset:])
    for offset in (len(DATA), 2**53):
        assert log_slice(viewer, ended, offset) == (b"", len(DATA), "true")


def test_an_empty_log_is_kept_too(
    viewer: Client, job_id: str, agent: AgentClient, cloud_services: CloudServices
) -> None:
    agent.finish(agent.take(), log_chunks=0)
    assert logs_archive() == 1
    assert log_slice(viewer, job_id) == (b"", 0, "true")


def test_a_slice_costs_its_size_and_no_more(viewer: Client, ended: str) -> None:
    logs_archive()
    with s3_reads() as sizes:
        log_slice(viewer, ended, len(DATA) - 100)
    assert sizes == [100]


def test_two_who_store_one_log_at_once_leave_one_file(ended: str, cloud_services: CloudServices) -> None:
    first, second = job_get(ended), job_get(ended)
    log_archive(job=first)
    log_archive(job=second)
    assert objects(cloud_services) == [job_get(ended).log_stored]


def test_a_sweep_that_takes_long_leaves_the_rest_to_the_next(
    ended: str, make_job: Callable[..., str], agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job()
    agent.finish(agent.take(), log_chunks=0)
    monkeypatch.setattr(log_archives, "_LOGS_SECONDS", 0)
    assert [logs_archive() for _ in range(3)] == [1, 1, 0]


def test_reading_a_deleted_log_gets_404(viewer: Client, ended: str, cloud_services: CloudServices) -> None:
    logs_archive()
    (name,) = objects(cloud_services)
    cloud_services.s3.delete_object(Bucket=cloud_services.bucket, Key=name)
    problem(viewer.get(f"/jobs/{ended}/log"), 404, "log_not_found")
    assert viewer.get(f"/jobs/{ended}").status_code == 200


def test_a_job_names_where_its_log_is(viewer: Client, ended: str) -> None:
    job = viewer.get(f"/jobs/{ended}").json()
    assert job["logs_url"] == f"{viewer.server}/jobs/{ended}/log"
    logs_archive()
    assert viewer.get(job["logs_url"].removeprefix(viewer.server)).content == first_part(DATA)
    assert Job.find(ended) is not None


def test_below_a_stage_the_link_has_the_stage_in_it(ended: str) -> None:
    """As under AWS's own address, where the path begins with the stage."""
    set_script_prefix("/staging/")
    try:
        request = RequestFactory(SCRIPT_NAME="/staging").get("/jobs")
        shown = JobSerializer(job_get(ended), context={"request": request}).data
    finally:
        set_script_prefix("/")
    assert shown["logs_url"] == f"http://testserver/staging/jobs/{ended}/log"


@pytest.mark.ministack("moto gives an object of several parts the checksum of no part and of no whole")
def test_a_log_of_60_megabytes_is_archived_in_parts_with_little_memory_and_no_temporary_file(
    viewer: Client, ended: str, cloud_services: CloudServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = b"x" * 100_000
    packed = gzip.compress(printed)
    with LogChunk.batch_write() as batch:
        for sequence in range(600):
            expires_at = clock.now() + timedelta(days=1)
            row = LogChunk(f"{ended}#1", 1000 + sequence, packed=packed, size=len(printed), expires_at=expires_at)
            batch.save(row)
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: pytest.fail("a temporary file"))
    tracemalloc.start()
    try:
        assert logs_archive() == 1
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    size = len(DATA) + 60_000_000
    assert log_slice(viewer, ended, size - 10) == (b"x" * 10, size, "true")
    found = cloud_services.s3.head_object(Bucket=cloud_services.bucket, Key=job_get(ended).log_stored)
    # The name of a file in parts ends with their number.
    assert found["ETag"].strip('"').endswith("-8")
