"""Artifacts: an agent stores them by presigned URLs, other jobs of the run take them, and users download them."""

import io
import logging
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.core.files.storage import storages

from apps.audit.actions import Action
from apps.audit.selectors import audit_list, audit_search
from apps.jobs.models import Artifact
from apps.jobs.selectors import job_get
from apps.jobs.selectors.job_origin import NeededJob
from apps.jobs.services.artifacts import artifact_complete, artifact_store, artifacts_fetch
from apps.jobs.services.uploads import ArchiveReport
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Unavailable
from controlplane.lib.ids import new_id
from controlplane.lib.presigned import Part
from controlplane.lib.presigned_files import PresignedFiles
from controlplane.nosql.transaction import Transaction
from tests.clients import Client, problem
from tests.jobs.archives import MIB, Transfers, described, fetched, sent, sha256
from tests.metering import dynamodb_calls
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]
DATA = b"an archive of what the job has made" * 40
MINISTACK = pytest.mark.ministack("moto checks neither signatures nor checksums")


@pytest.fixture
def directory(tmp_path: Any, settings: Any) -> PresignedFiles:
    """Artifacts are in an empty directory."""
    backend = {"BACKEND": "controlplane.lib.presigned_files.PresignedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": backend}
    found = storages["artifacts"]
    assert isinstance(found, PresignedFiles)
    return found


@pytest.fixture(params=[pytest.param("S3", marks=MINISTACK), "directory"])
def storage(request: pytest.FixtureRequest) -> Any:
    """Both places of artifacts, empty."""
    request.getfixturevalue("cloud_services" if request.param == "S3" else "directory")
    return storages["artifacts"]


@pytest.fixture
def transfers(agent: AgentClient, make_job: MakeJob) -> Transfers:
    """A running job, as its agent sees it."""
    make_job()
    return Transfers(agent, agent.take())


def listed(client: Client, transfers: Transfers) -> list[dict[str, Any]]:
    answer = client.get(f"/jobs/{transfers.assignment['job_id']}/artifacts")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["artifacts"])


def run_of(transfers: Transfers) -> str:
    return str(job_get(transfers.assignment["job_id"]).run_id)


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Transfers], None]:
    """From now on each job needs this one, under the name of `build`."""

    def need(transfers: Transfers) -> None:
        found = NeededJob("build", run_of(transfers), transfers.assignment["job_id"])
        monkeypatch.setattr("apps.jobs.selectors.artifacts.needed_jobs", lambda _job, nodes: [found] * bool(nodes))

    return need


# --- agents store -----------------------------------------------------------------------------------------------------


def test_an_artifact_goes_to_object_storage_and_is_listed_and_downloaded(
    storage: Any, transfers: Transfers, viewer: Client
) -> None:
    artifact_id = transfers.artifact(DATA, files=[{"path": "out/a b.xml", "size": 7, "mode": 0o755}], files_total=3)
    (found,) = listed(viewer, transfers)
    assert found["artifact_id"] == artifact_id
    assert (found["name"], found["node"], found["attempt"]) == ("reports", "main", 1)
    assert (found["size"], found["sha256"], found["files"]) == (len(DATA), sha256(DATA), 3)
    answer = viewer.get(f"/artifacts/{artifact_id}/download")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
    download = requests.get(answer.headers["Location"], timeout=30)
    assert (download.content, download.status_code) == (DATA, 200)
    assert download.headers["Content-Disposition"] == 'attachment; filename="main-reports.tar.gz"'
    files = viewer.get(f"/artifacts/{artifact_id}/files").json()
    assert files == {"files": [{"path": "out/a b.xml", "size": 7, "mode": "0755"}], "total": 3}
    run = viewer.get(f"/runs/{run_of(transfers)}/artifacts").json()
    assert run == {"artifacts": [found], "next_cursor": None}


def test_a_large_artifact_goes_in_parts_and_goes_on_where_it_stopped(
    storage: Any, transfers: Transfers, viewer: Client
) -> None:
    parts = [bytes([number]) * (5 * MIB) for number in range(3)] + [b"the end"]
    body = transfers.artifact_body(*parts)
    first = transfers.good("artifacts", body)
    assert [upload["part"] for upload in first["uploads"]] == [1, 2, 3, 4]
    for number in (1, 3):
        assert sent(first["uploads"][number], parts[number]) == 200
    problem(transfers.post(f"artifacts/{first['artifact_id']}/complete", {}), 409, "upload_incomplete")
    # The agent is restarted and begins anew with the same archive.
    assert transfers.artifact(*parts) == first["artifact_id"]
    assert transfers.sent == [1, 3]
    assert transfers.good("artifacts", body) == {"artifact_id": first["artifact_id"], "uploads": []}
    (found,) = listed(viewer, transfers)
    answer = viewer.get(f"/artifacts/{found['artifact_id']}/download")
    assert sha256(requests.get(answer.headers["Location"], timeout=30).content) == sha256(b"".join(parts))


def test_an_answer_names_a_hundred_parts_at_most(directory: PresignedFiles, transfers: Transfers) -> None:
    body = transfers.artifact_body(b"x")
    part = {"size": 5 * MIB, "sha256": sha256(b"x")}
    body |= {"size": 101 * 5 * MIB, "parts": [part] * 101}
    assert len(transfers.good("artifacts", body)["uploads"]) == 100


def test_an_artifact_is_not_listed_before_it_is_complete(
    directory: PresignedFiles, transfers: Transfers, viewer: Client
) -> None:
    artifact_id = transfers.artifact(DATA, complete=False)
    assert listed(viewer, transfers) == []
    assert viewer.get(f"/runs/{run_of(transfers)}/artifacts").json()["artifacts"] == []
    for path in ("download", "files"):
        problem(viewer.get(f"/artifacts/{artifact_id}/{path}"), 404, "artifact_not_found")
    problem(viewer.get(f"/runs/{run_of(transfers)}/artifacts.zip"), 404, "artifact_not_found")


def test_each_request_may_be_repeated(directory: PresignedFiles, transfers: Transfers, viewer: Client) -> None:
    body = transfers.artifact_body(DATA)
    first, second = transfers.good("artifacts", body), transfers.good("artifacts", body)
    assert first["artifact_id"] == second["artifact_id"]
    assert [sent(answer["uploads"][0], DATA) for answer in (first, second, first)] == [200, 200, 200]
    for _ in range(2):
        assert transfers.good(f"artifacts/{first['artifact_id']}/complete", {}) == {}
    assert transfers.good("artifacts", body)["uploads"] == []
    assert len(listed(viewer, transfers)) == 1


def test_two_uploads_of_the_same_artifact_at_once_make_one(storage: Any, transfers: Transfers, viewer: Client) -> None:
    parts = [b"a" * (5 * MIB), b"b"]
    with ThreadPoolExecutor(2) as pool:
        others = [Transfers(transfers.agent, transfers.assignment, is_racing=True) for _ in range(2)]
        ids = set(pool.map(lambda one: one.artifact(*parts), others))
    assert len(ids) == len(listed(viewer, transfers)) == 1
    if not isinstance(storage, PresignedFiles):
        assert "Uploads" not in storage.connection.meta.client.list_multipart_uploads(Bucket=storage.bucket_name)


def test_other_content_replaces_an_upload_that_is_not_complete_and_no_other(
    storage: Any, transfers: Transfers, viewer: Client
) -> None:
    parts = [b"a" * (5 * MIB), b"b"]
    before = transfers.good("artifacts", transfers.artifact_body(*parts))
    artifact_id = transfers.artifact(DATA)
    assert artifact_id == before["artifact_id"]
    # The URLs of before lead to nothing that is listed.
    sent(before["uploads"][0], parts[0])
    assert transfers.good(f"artifacts/{artifact_id}/complete", {}) == {}
    (found,) = listed(viewer, transfers)
    assert found["sha256"] == sha256(DATA)
    problem(transfers.post("artifacts", transfers.artifact_body(b"something else")), 409, "artifact_exists")
    location = viewer.get(f"/artifacts/{artifact_id}/download").headers["Location"]
    assert requests.get(location, timeout=30).content == DATA


def test_wrong_content_is_never_listed(storage: Any, transfers: Transfers, viewer: Client) -> None:
    answer = transfers.good("artifacts", transfers.artifact_body(DATA))
    (upload,) = answer["uploads"]
    assert [sent(upload, data) for data in (DATA.swapcase(), DATA + b"!")] in ([400, 403], [400, 400])
    problem(transfers.post(f"artifacts/{answer['artifact_id']}/complete", {}), 409, "upload_incomplete")
    assert listed(viewer, transfers) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size": 3}, "parts"),
        ({"size": 0}, "size"),
        ({"sha256": "0" * 64}, "parts[0].sha256"),
        ({"sha256": "0" * 63 + "g"}, "sha256"),
        ({"parts": []}, "parts"),
        ({"parts": [{"size": 64 * MIB, "sha256": "0" * 64}], "size": 64 * MIB}, "parts"),
        ({"parts": [{"size": 1, "sha256": "0" * 64}] * 2, "size": 2}, "parts[0].size"),
        ({"parts": [{"size": 129 * MIB, "sha256": "0" * 64}] * 2}, "parts[0].size"),
        ({"parts": [{"size": 5 * MIB, "sha256": "0" * 64}] * 1001}, "parts"),
        ({"media": "text/html"}, "media"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expire_in": 91 * 86_400}, "expire_in"),
        ({"files": [{"path": "a", "size": 1, "mode": 0o10000}]}, "files[0].mode"),
        *(
            ({"files": [{"path": path, "size": 1, "mode": 0o644}]}, "files[0].path")
            for path in ("/etc/passwd", "../a", "a/../../b", "a//b", "./a", "a\x00b", "a\nb", "", "a/..")
        ),
    ],
)
def test_a_report_that_breaks_a_rule_names_the_field(
    directory: PresignedFiles, transfers: Transfers, changes: dict[str, Any], field: str
) -> None:
    body = problem(transfers.post("artifacts", {**transfers.artifact_body(DATA), **changes}), 400, "invalid_input")
    assert [error["field"] for error in body["errors"]] == [field]


@MINISTACK
def test_while_object_storage_is_out_nothing_is_begun_and_agents_try_again(
    cloud_services: Any, transfers: Transfers, viewer: Client, settings: Any
) -> None:
    path = "controlplane.lib.presigned_objects.PresignedObjects"
    there = settings.STORAGES
    settings.STORAGES = {**there, "artifacts": {"BACKEND": path, "OPTIONS": {"bucket_name": "there-is-none"}}}
    answer = transfers.post("artifacts", transfers.artifact_body(DATA))
    problem(answer, 503, "unavailable")
    assert answer.headers["Retry-After"]
    settings.STORAGES = there
    transfers.artifact(DATA)
    assert len(listed(viewer, transfers)) == 1


def test_a_larger_artifact_than_the_setting_allows_is_refused(
    directory: PresignedFiles, transfers: Transfers, settings: Any
) -> None:
    settings.ARTIFACT_LIMIT_MB = 1
    body = transfers.artifact_body(DATA) | {"size": 1_000_001}
    problem(transfers.post("artifacts", body), 413, "archive_too_large")


def test_an_attempt_has_twenty_artifacts_at_most(directory: PresignedFiles, transfers: Transfers) -> None:
    for number in range(20):
        transfers.good("artifacts", transfers.artifact_body(DATA, name=f"{number}"))
    problem(transfers.post("artifacts", transfers.artifact_body(DATA, name="more")), 422, "too_many_artifacts")
    assert transfers.good("artifacts", transfers.artifact_body(DATA, name="7"))["uploads"]


def test_only_the_attempt_itself_stores_artifacts(
    directory: PresignedFiles, transfers: Transfers, server: str, make_job: MakeJob
) -> None:
    body = transfers.artifact_body(DATA)
    artifact_id = transfers.artifact(DATA, complete=False)
    stranger = enrolled(server, name="build-2")
    make_job()
    other = Transfers(stranger, stranger.take())
    # Another agent, another attempt, and an artifact of another job.
    problem(Transfers(stranger, transfers.assignment).post("artifacts", body), 409, "stale_attempt")
    later = {**transfers.assignment, "attempt": 2}
    problem(Transfers(transfers.agent, later).post("artifacts", body), 409, "stale_attempt")
    problem(other.post(f"artifacts/{artifact_id}/complete", {}), 404, "artifact_not_found")
    assert transfers.agent.finish(transfers.assignment).status_code == 200
    problem(transfers.post("artifacts", body), 409, "stale_attempt")
    problem(transfers.post(f"artifacts/{artifact_id}/complete", {}), 409, "stale_attempt")


# --- jobs take --------------------------------------------------------------------------------------------------------


def test_needs_brings_a_jobs_artifacts(
    storage: Any, transfers: Transfers, make_job: MakeJob, needs: Callable[[Transfers], None]
) -> None:
    transfers.artifact(DATA)
    transfers.artifact(b"other", name="coverage")
    assert transfers.agent.finish(transfers.assignment).status_code == 200
    needs(transfers)
    make_job()
    taker = Transfers(transfers.agent, transfers.agent.take())
    found = taker.good("artifacts/fetch", {"jobs": ["build", "build"]})["artifacts"]
    assert {(each["name"], each["node"]): fetched(each) for each in found} == {
        ("reports", "build"): DATA,
        ("coverage", "build"): b"other",
    }
    assert taker.good("artifacts/fetch", {"jobs": []}) == {"artifacts": []}


def test_a_job_takes_nothing_of_a_job_that_it_does_not_need(
    directory: PresignedFiles, transfers: Transfers, make_job: MakeJob
) -> None:
    transfers.artifact(DATA)
    make_job()
    taker = Transfers(transfers.agent, transfers.agent.take())
    for name in ("main", "build", transfers.assignment["job_id"]):
        body = problem(taker.post("artifacts/fetch", {"jobs": [name]}), 400, "invalid_input")
        assert body["errors"][0]["field"] == "jobs[0]"


def test_artifacts_of_an_attempt_that_was_lost_are_not_taken(
    directory: PresignedFiles, transfers: Transfers, make_job: MakeJob, needs: Callable[[Transfers], None]
) -> None:
    transfers.artifact(DATA)
    fault = transfers.agent.finish(transfers.assignment, exit_code=None, agent_fault="disk full")
    assert fault.status_code == 200
    other = enrolled(transfers.agent.server, name="build-2")
    second = Transfers(other, other.take())
    assert second.assignment["attempt"] == 2
    second.artifact(b"of the second attempt")
    needs(transfers)
    make_job()
    taker = Transfers(other, other.take())
    (found,) = taker.good("artifacts/fetch", {"jobs": ["build"]})["artifacts"]
    assert fetched(found) == b"of the second attempt"


def test_the_artifacts_of_many_needed_jobs_are_found(
    directory: PresignedFiles, transfers: Transfers, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than eight, the whole run is read."""
    transfers.artifact(DATA)
    need = [NeededJob(f"build-{n}", run_of(transfers), transfers.assignment["job_id"]) for n in range(9)]
    monkeypatch.setattr("apps.jobs.selectors.artifacts.needed_jobs", lambda _job, nodes: need)
    make_job()
    taker = Transfers(transfers.agent, transfers.agent.take())
    with dynamodb_calls() as metering:
        found = taker.good("artifacts/fetch", {"jobs": ["all"]})["artifacts"]
    assert [each["node"] for each in found] == [each.node for each in need]
    assert metering.operations.count("Query") == 1


# --- users ------------------------------------------------------------------------------------------------------------


def test_all_artifacts_of_a_run_are_one_zip(storage: Any, transfers: Transfers, viewer: Client) -> None:
    transfers.artifact(DATA)
    transfers.artifact(b"b" * 300_000, name="a/../b")
    transfers.artifact(b"c", name="a b", media="application/x-tar+zstd")
    transfers.artifact(b"d", name="a-b", media="application/x-tar+zstd")
    answer = viewer.get(f"/runs/{run_of(transfers)}/artifacts.zip")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        content = {name: found.read(name) for name in found.namelist()}
    assert content.pop("main-reports.tar.gz") == DATA
    assert content.pop("main-a-..-b.tar.gz") == b"b" * 300_000
    assert set(content) == {"main-a-b.tar.zst", "2-main-a-b.tar.zst"}
    assert set(content.values()) == {b"c", b"d"}
    (event,) = downloads(f"run:{run_of(transfers)}")
    assert event.detail["artifacts"].split(", ")[:1] == ["reports"]


def downloads(target: str) -> list[Any]:
    return audit_search(target=target, action=Action.ARTIFACTS_DOWNLOADED).records


def test_a_download_is_recorded_and_if_it_cannot_be_it_does_not_happen(
    directory: PresignedFiles, transfers: Transfers, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Transaction) -> None:
        raise Unavailable

    artifact_id = transfers.artifact(DATA)
    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "commit", fail)
        for path in (f"/artifacts/{artifact_id}/download", f"/runs/{run_of(transfers)}/artifacts.zip"):
            problem(viewer.get(path), 503, "unavailable")
    assert downloads(f"artifact:{artifact_id}") == []
    assert viewer.get(f"/artifacts/{artifact_id}/download").status_code == 302
    (event,) = downloads(f"artifact:{artifact_id}")
    assert (event.detail["artifacts"], event.detail["sha256"]) == ("reports", sha256(DATA))


def test_behind_the_gateway_a_large_zip_is_refused_and_a_small_one_is_not(
    directory: PresignedFiles, transfers: Transfers, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.api.artifacts.behind_gateway", lambda _request: True)
    transfers.artifact(DATA)
    path = f"/runs/{run_of(transfers)}/artifacts.zip"
    assert zipfile.ZipFile(io.BytesIO(viewer.get(path).content)).namelist() == ["main-reports.tar.gz"]
    transfers.artifact(bytes(4_000_000), name="large")
    assert f"/runs/{run_of(transfers)}/artifacts." in problem(viewer.get(path), 409, "zip_too_large")["detail"]


def test_a_list_of_artifacts_has_pages(directory: PresignedFiles, transfers: Transfers, viewer: Client) -> None:
    ids = {transfers.artifact(DATA, name=f"{number}") for number in range(3)}
    path = f"/runs/{run_of(transfers)}/artifacts"
    first = viewer.get(f"{path}?limit=2").json()
    second = viewer.get(f"{path}?limit=2&cursor={first['next_cursor']}").json()
    assert {each["artifact_id"] for each in first["artifacts"] + second["artifacts"]} == ids
    assert second["next_cursor"] is None
    other = viewer.get(f"/runs/{new_id()}/artifacts?cursor={first['next_cursor']}")
    problem(other, 400, "invalid_cursor")


def test_an_artifact_expires_when_its_job_says(directory: PresignedFiles, transfers: Transfers, viewer: Client) -> None:
    artifact_id = transfers.artifact(DATA, expire_in=7200)
    forever = transfers.artifact(DATA, name="default")
    with clock.shifted(timedelta(hours=1)):
        assert len(listed(viewer, transfers)) == 2
    with clock.shifted(timedelta(hours=3)):
        assert [each["artifact_id"] for each in listed(viewer, transfers)] == [forever]
        problem(viewer.get(f"/artifacts/{artifact_id}/download"), 404, "artifact_not_found")
    with clock.shifted(timedelta(days=4)):
        # The bytes and the listing of one artifact; the item has its TTL.
        assert directory.expired_delete(seconds=5) == 2
    owner, _, entry = artifact_id.partition("-")
    assert Artifact.get(owner, entry).expires_at < clock.now() + timedelta(hours=3)


def test_an_operator_deletes_an_artifact_and_its_bytes(
    storage: Any, transfers: Transfers, viewer: Client, operator: Client
) -> None:
    artifact_id = transfers.artifact(DATA)
    location = viewer.get(f"/artifacts/{artifact_id}/download").headers["Location"]
    problem(viewer.delete(f"/artifacts/{artifact_id}"), 403, "forbidden")
    assert operator.delete(f"/artifacts/{artifact_id}").status_code == 204
    assert requests.get(location, timeout=30).status_code == 404
    assert listed(viewer, transfers) == []
    problem(operator.delete(f"/artifacts/{artifact_id}"), 404, "artifact_not_found")
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    (event,) = (record for record in records if record.action == "artifact.deleted")
    assert event.target == f"job:{transfers.assignment['job_id']}"


def test_a_deletion_that_the_storage_refuses_can_be_repeated(
    directory: PresignedFiles, transfers: Transfers, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlplane.lib.errors import Unavailable

    artifact_id = transfers.artifact(DATA)

    def refuse(_storage: Any, _name: str) -> None:
        raise Unavailable("AWS (S3) is not available. Try again.")

    with monkeypatch.context() as broken:
        broken.setattr(PresignedFiles, "delete", refuse)
        problem(operator.delete(f"/artifacts/{artifact_id}"), 503, "unavailable")
    problem(operator.get(f"/artifacts/{artifact_id}/download"), 404, "artifact_not_found")
    assert operator.delete(f"/artifacts/{artifact_id}").status_code == 204
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    assert sum(record.action == "artifact.deleted" for record in records) == 1


# --- secrets and costs ------------------------------------------------------------------------------------------------


@pytest.fixture
def product_log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything that the product and its libraries log, at the most talkative level that the settings allow."""
    caplog.set_level(logging.WARNING, "botocore")
    for name in ("", "apps", "controlplane"):
        caplog.set_level(logging.DEBUG, name)

    def text() -> str:
        # The tests' own client logs what it asks for.
        return "\n".join(
            f"{record.getMessage()} {vars(record)}"
            for record in caplog.records
            if not record.name.startswith("urllib3")
        )

    return text


def test_a_presigned_url_is_in_no_log(
    storage: Any, transfers: Transfers, viewer: Client, product_log: Callable[[], str], settings: Any
) -> None:
    settings.METRICS_EMF = True
    artifact_id = transfers.artifact(DATA)
    location = viewer.get(f"/artifacts/{artifact_id}/download").headers["Location"]
    requests.get(location, timeout=30)
    assert requests.get(f"{location}0", timeout=30).status_code == 403
    assert "GET /artifacts/{artifact_id}/download: 302" in product_log()
    assert "ignature" in location
    assert "ignature=" not in product_log()
    assert "X-Amz" not in product_log()


def test_the_calls_of_an_upload_and_of_a_download(
    directory: PresignedFiles, make_job: MakeJob, agent: AgentClient, viewer: Client
) -> None:
    make_job()
    assignment = agent.take()
    actor = Actor("agent", agent.agent_id, "build-1")
    of_attempt: dict[str, Any] = {"agent": actor, "job_id": assignment["job_id"], "attempt": 1}
    report = ArchiveReport(len(DATA), sha256(DATA), [Part(len(DATA), sha256(DATA))], "application/x-tar+gzip")
    asked: dict[str, Any] = {
        **of_attempt, "name": "a", "report": report, "files": [], "files_total": None, "expire_in": 3600, "base": "http://x/"
    }  # fmt: skip
    with dynamodb_calls() as metering:
        artifact, _ = artifact_store(**asked)
    assert metering.operations == ["GetItem", "Query", "PutItem"]
    assert metering.write_units == 1
    with dynamodb_calls() as metering:
        artifact_store(**asked)
    assert metering.operations == ["GetItem", "Query"]
    transfers = Transfers(agent, assignment)
    transfers.artifact(DATA, name="b")
    directory.part_write(str(artifact.stored_name), 1, report.parts[0], io.BytesIO(DATA))
    with dynamodb_calls() as metering:
        artifact_complete(**of_attempt, artifact_id=artifact.artifact_id)
    assert metering.operations == ["GetItem", "GetItem", "UpdateItem"]
    assert metering.write_units == 1
    with dynamodb_calls() as metering:
        artifacts_fetch(**of_attempt, nodes=[])
    assert metering.operations == ["GetItem"]


def test_an_artifact_of_a_run_that_does_not_exist_is_not_found(server: str, viewer: Client) -> None:
    assert viewer.get(f"/runs/{new_id()}/artifacts").json() == {"artifacts": [], "next_cursor": None}
    nothing = f"{new_id()}-{new_id()}-1-{'0' * 32}"
    problem(viewer.get(f"/artifacts/{nothing}/download"), 404, "artifact_not_found")


def test_the_body_of_a_completion_may_list_the_parts(directory: PresignedFiles, transfers: Transfers) -> None:
    """Storage knows them, so that an agent need not remember them."""
    answer = transfers.good("artifacts", transfers.artifact_body(DATA))
    assert sent(answer["uploads"][0], DATA) == 200
    body = {"parts": [{"part": 1, "etag": "x"}]}
    assert transfers.good(f"artifacts/{answer['artifact_id']}/complete", body) == {}
    assert described(DATA)["parts"]
