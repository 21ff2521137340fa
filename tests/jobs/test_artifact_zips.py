"""Behind a gateway, a zip that is too large for a response is made in the bucket, and the answer leads there."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError
from django.core.files.storage import storages

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.models import Artifact
from apps.jobs.selectors import artifacts as selector
from apps.jobs.selectors import job_get
from apps.jobs.services import artifact_zips
from apps.jobs.services.artifacts import artifact_delete, zips_folder
from controlplane.lib import clock
from controlplane.lib.aws import CONNECT_TIMEOUT_SECONDS
from controlplane.lib.zip_stream import zip_blocks
from tests.clients import Client, problem
from tests.conftest import OPERATOR
from tests.jobs.archives import MIB, Transfers
from tests.signing import AgentClient

pytestmark = pytest.mark.ministack("moto gives an object of several parts the checksum of no part and of no whole")
DATA = b"an archive of what the job has made" * 40


@pytest.fixture
def storage(cloud_services: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket. The control plane is behind a gateway through which responses of 1,000 bytes fit."""
    monkeypatch.setattr("apps.jobs.api.artifacts.behind_gateway", lambda _request: True)
    monkeypatch.setattr(selector, "_ZIP_THROUGH_GATEWAY", 1_000)
    return storages["artifacts"]


class Run(Transfers):
    """A run with a job whose agent stores artifacts."""

    @property
    def run_id(self) -> str:
        return str(job_get(self.assignment["job_id"]).run_id)

    @property
    def path(self) -> str:
        return f"/runs/{self.run_id}/artifacts.zip"


@pytest.fixture
def run(agent: AgentClient, make_job: Callable[..., str]) -> Run:
    make_job()
    return Run(agent, agent.take())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The names of the calls to S3; those in `broken` fail."""

    class Calls(list[str]):
        broken = frozenset[str]()
        # How often their clients try.
        attempts: set[int]

    made = Calls()
    made.attempts = set()
    make = BaseClient._make_api_call

    def note(client: Any, operation: str, arguments: Any) -> Any:
        if client.meta.service_model.service_name != "s3":
            return make(client, operation, arguments)
        made.append(operation)
        made.attempts.add(client.meta.config.retries["total_max_attempts"])
        if operation in made.broken:
            raise EndpointConnectionError(endpoint_url="https://s3")
        return make(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    return made


def content(answer: requests.Response) -> dict[str, bytes]:
    """The files of the zip to which the answer leads."""
    assert (answer.status_code, answer.headers["Cache-Control"]) == (303, "no-store"), answer.text
    download = requests.get(answer.headers["Location"], timeout=30)
    assert (download.status_code, download.headers["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(download.content)) as found:
        return {name: found.read(name) for name in found.namelist()}


def downloads(run: Run) -> list[Any]:
    return audit_search(target=f"run:{run.run_id}", action=Action.ARTIFACTS_DOWNLOADED).records


def zips(storage: Any, run: Run) -> list[str]:
    return list(storage.names(zips_folder(run.run_id)))


def unfinished(storage: Any) -> int:
    """How many uploads in parts have neither been completed nor aborted."""
    found = storage.connection.meta.client.list_multipart_uploads(Bucket=storage.bucket_name)
    return len(found.get("Uploads", ()))


def test_a_large_zip_is_made_once_in_parts_and_downloaded_from_the_bucket_by_a_link_that_is_in_no_log(
    storage: Any, run: Run, viewer: Client, calls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "controlplane")
    large = bytes(range(256)) * 36_000
    run.artifact(large[: 5 * MIB], large[5 * MIB :])
    run.artifact(DATA, name="small")
    calls.clear()
    calls.attempts.clear()
    answers = [viewer.get(run.path) for _ in range(2)]
    for answer in answers:
        assert content(answer) == {"main-reports.tar.gz": large, "main-small.tar.gz": DATA}
        disposition = requests.get(answer.headers["Location"], stream=True, timeout=30).headers["Content-Disposition"]
        assert disposition == f'attachment; filename="artifacts-{run.run_id}.zip"'
    # The second request, as after an answer that was lost, only looks whether the zip is there.
    assert calls.count("UploadPart") == 2
    assert calls.count("GetObject") == 2
    assert calls.attempts == {1}
    assert [event.detail["artifacts"] for event in downloads(run)] == ["reports, small"] * 2
    assert "artifacts.zip: 303" in caplog.text
    assert "ignature=" not in "".join(record.getMessage() for record in caplog.records if "urllib3" not in record.name)


def test_two_requests_at_once_or_after_one_that_was_killed_or_wrote_half_lead_to_a_whole_zip(
    storage: Any, run: Run, viewer: Client
) -> None:
    run.artifact(DATA)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: viewer.get(run.path), range(2)))
    assert [content(answer) for answer in answers] == [{"main-reports.tar.gz": DATA}] * 2
    (name,) = zips(storage, run)
    # Of a function that was killed there is an upload, which the bucket's life cycle deletes: test_template.py.
    storage.delete(name)
    upload = {"Bucket": storage.bucket_name, "Key": name, "UploadId": storage.upload_begin(name)}
    storage.connection.meta.client.upload_part(**upload, PartNumber=1, Body=b"the first part")
    assert content(viewer.get(run.path)) == {"main-reports.tar.gz": DATA}
    assert unfinished(storage) == 1
    storage.save_stream(name, [b"PK the beginning"])
    assert content(viewer.get(run.path)) == {"main-reports.tar.gz": DATA}
    # Once there is more, and when the life cycle may be about to delete this one, another is made.
    run.artifact(DATA, name="later")
    assert content(viewer.get(run.path)) == {"main-reports.tar.gz": DATA, "main-later.tar.gz": DATA}
    with clock.shifted(timedelta(days=1)):
        viewer.get(run.path)
    assert len(zips(storage, run)) == 3


def test_an_artifact_that_is_deleted_before_or_while_a_zip_is_made_is_in_none(
    storage: Any, run: Run, viewer: Client, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its bytes are not read yet, when all are, and when the zip is there."""
    before, after, then = (run.artifact(DATA, name=name) for name in ("before", "after", "then"))

    def deleted_before(entries: Any) -> Iterator[bytes]:
        artifact_delete(actor=OPERATOR, artifact_id=before)
        yield from zip_blocks(entries)

    def deleted_after(entries: Any) -> Iterator[bytes]:
        yield from zip_blocks(entries)
        artifact_delete(actor=OPERATOR, artifact_id=after)

    for meanwhile in (deleted_before, deleted_after):
        with monkeypatch.context() as patched:
            patched.setattr(artifact_zips, "zip_blocks", meanwhile)
            problem(viewer.get(run.path), 404, "artifact_not_found")
        assert (zips(storage, run), downloads(run)) == ([], [])
    answer = viewer.get(run.path)
    assert content(answer) == {"main-then.tar.gz": DATA}
    assert operator.delete(f"/artifacts/{then}").status_code == 204
    assert requests.get(answer.headers["Location"], timeout=30).status_code == 404
    assert zips(storage, run) == []


def test_while_s3_fails_or_an_artifact_is_not_whole_there_is_no_zip_and_nothing_of_it_stays(
    storage: Any, run: Run, viewer: Client, calls: Any
) -> None:
    owner, _, entry = run.artifact(bytes(8 * MIB)).partition("-")
    for operation in ("HeadObject", "GetObject", "UploadPart", "CompleteMultipartUpload"):
        calls.broken = {operation}
        answer = viewer.get(run.path)
        problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"]
        assert calls[-1] in {operation, "AbortMultipartUpload"}
    calls.broken = frozenset()
    storage.save_stream(str(Artifact.get(owner, entry).stored_name), [DATA])
    problem(viewer.get(run.path), 503, "unavailable")
    assert (zips(storage, run), downloads(run), unfinished(storage)) == ([], [], 0)


def test_a_zip_that_takes_too_long_or_passes_a_limit_is_refused_before_the_gateways_timeout(
    storage: Any, run: Run, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.artifact(DATA)
    config = storage.hurried.connection.meta.client.meta.config
    # For the call that is under way, and for the one that deletes what was uploaded.
    seconds = 2 * (CONNECT_TIMEOUT_SECONDS + config.read_timeout) * config.retries["total_max_attempts"]
    assert artifact_zips._SECONDS + seconds < 29 - 3
    limits = ((artifact_zips, "_SECONDS", -1), (selector, "_ZIP_IN_BUCKET", 9), (selector, "_ZIP_ARTIFACTS", 0))
    for module, name, value in limits:
        with monkeypatch.context() as patched:
            patched.setattr(module, name, value)
            answer = problem(viewer.get(run.path), 409, "zip_too_large")
        assert f"GET /runs/{run.run_id}/artifacts." in answer["detail"]
    assert (zips(storage, run), downloads(run)) == ([], [])


@pytest.mark.parametrize("megabytes", [pytest.param(200, marks=pytest.mark.nightly)])
def test_the_memory_of_a_zip_does_not_grow_with_it(storage: Any, run: Run, megabytes: int) -> None:
    owner, _, entry = run.artifact(DATA).partition("-")
    artifact = Artifact.get(owner, entry)
    block = bytes(range(256)) * 4_000
    storage.save_stream(str(artifact.stored_name), (block for _ in range(megabytes)))
    artifact.update(actions=[Artifact.size.set(megabytes * len(block))])
    tracemalloc.start()
    try:
        artifact_zips.artifacts_zip(actor=OPERATOR, run_id=owner, artifacts=[artifact], base="")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (name,) = zips(storage, run)
    assert storage.size(name) > megabytes * len(block)
    assert most < 30_000_000
