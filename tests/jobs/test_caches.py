"""Caches: by exact key, then by the longest restore key, per pipeline and branch, written once, within a quota."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.audit.selectors import audit_list
from apps.jobs.selectors.job_origin import Origin
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.jobs.archives import MIB, Transfers, described, sent
from tests.jobs.test_artifacts import directory, storage  # noqa: F401 — fixtures
from tests.metering import dynamodb_calls
from tests.signing import AgentClient

MakeJob = Callable[..., str]
Running = Callable[..., Transfers]


@pytest.fixture
def running(agent: AgentClient, make_job: MakeJob) -> Running:
    """Starts a job, of the default branch unless another is named, as its agent sees it."""

    def start(git_ref: str = "main", **members: Any) -> Transfers:
        make_job(git_ref=git_ref, **members)
        return Transfers(agent, agent.take())

    return start


@pytest.fixture
def pull_request(running: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Transfers]:
    """Starts a job for a change that a stranger proposes, whose branch has the default branch's name."""

    def start() -> Transfers:
        monkeypatch.setattr("apps.jobs.services.caches.job_origin", lambda job: Origin("pull_request", job.git_ref))
        return running("main")

    return start


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def test_a_cache_is_restored_by_its_exact_key(storage: Any, running: Running) -> None:  # noqa: F811
    job = running()
    assert job.restore("deps-1") == {
        "hit": "none", "key": None, "size": None, "sha256": None, "media": None, "url": None, "headers": {}
    }  # fmt: skip
    parts = [b"d" * (5 * MIB), b"eps"]
    assert job.cache("deps-1", *parts)
    found = job.restore("deps-1", "deps-")
    assert (found["hit"], found["key"]) == ("exact", "deps-1")
    assert job.restored("deps-1") == b"".join(parts)
    assert running("feature").restored("deps-1") == b"".join(parts)


def test_without_the_exact_key_the_longest_restore_key_wins_and_then_the_newest(
    directory: Any,  # noqa: F811
    running: Running,
) -> None:
    job = running()
    for key in ("deps-linux-1", "deps-linux-2", "deps-3", "other-4"):
        job.cache(key, key.encode())
    found = job.restore("deps-linux-9", "deps-", "deps-linux-")
    assert (found["hit"], found["key"]) == ("partial", "deps-linux-2")
    assert job.restored("deps-9", "deps-") == b"deps-3"
    assert job.restored("deps-9", "none-", "other") == b"other-4"
    assert job.restored("deps-9", "none-") is None
    # A key is no beginning of a key by itself.
    assert job.restored("deps") is None


def test_a_branch_reads_its_own_caches_and_then_those_of_the_default_branch(
    directory: Any,  # noqa: F811
    running: Running,
) -> None:
    main, feature, other = running("main"), running("feature"), running("other")
    main.cache("deps-1", b"of main")
    assert feature.restored("deps-1") == b"of main"
    feature.cache("deps-1", b"of the branch")
    feature.cache("deps-2", b"newer, of the branch")
    assert feature.restored("deps-1") == b"of the branch"
    assert feature.restored("deps-3", "deps-") == b"newer, of the branch"
    # Neither the default branch nor another branch reads them.
    assert main.restored("deps-1") == b"of main"
    assert main.restored("deps-2") is None
    assert other.restored("deps-3", "deps-") == b"of main"
    # A longer key of the default branch goes before a shorter one of the branch.
    main.cache("deps-long-1", b"longer, of main")
    assert feature.restored("deps-long-9", "deps-", "deps-long-") == b"longer, of main"
    assert running("refs/heads/feature").restored("deps-1") == b"of the branch"


def test_another_pipeline_reads_nothing_of_it(
    directory: Any,  # noqa: F811
    running: Running,
    operator_actor: Any,
) -> None:
    running().cache("deps-1", b"of self")
    pipeline_save(
        actor=ADMIN,
        name="other",
        repository="https://git.example.com/other.git",
        default_ref="main",
        definition="steps: [{name: a, run: a}]",
    )
    assert running(pipeline="other").restored("deps-1", "deps-") is None


def test_a_cache_is_written_once(directory: Any, running: Running) -> None:  # noqa: F811
    first, second = running(), running()
    assert first.cache("deps-1", b"first")
    assert not second.cache("deps-1", b"second")
    assert second.restored("deps-1") == b"first"


def test_of_two_jobs_that_write_a_cache_at_once_one_does_and_no_bytes_are_left_of_the_other(
    storage: Any,  # noqa: F811
    running: Running,
) -> None:
    jobs = [running(), running()]
    bodies = [described(f"of {number}".encode(), key="deps-1") for number in range(2)]
    answers = [job.good("caches/save", body) for job, body in zip(jobs, bodies, strict=True)]
    for number, answer in enumerate(answers):
        assert sent(answer["uploads"][0], f"of {number}".encode()) == 200
    with ThreadPoolExecutor(2) as pool:
        pairs = list(zip(jobs, answers, strict=True))
        ends = list(pool.map(lambda pair: pair[0].good(f"caches/{pair[1]['cache_id']}/complete", {}), pairs * 2))
    assert ends == [{}] * 4
    assert jobs[0].restored("deps-1") in (b"of 0", b"of 1")
    names = [f"keep-30/caches/{job.assignment['job_id']}" for job in jobs]
    left = [any(storage.stored(f"{name}/{found}") for found in _names(storage, name)) for name in names]
    assert sorted(left) == [False, True]


def _names(storage: Any, folder: str) -> list[str]:  # noqa: F811
    if hasattr(storage, "bucket_name"):
        found = storage.connection.meta.client.list_objects_v2(Bucket=storage.bucket_name, Prefix=folder)
        return [entry["Key"].rsplit("/", 1)[1] for entry in found.get("Contents", ())]
    path = Path(storage.path(folder))
    return [entry.name for entry in path.iterdir()] if path.exists() else []


def test_a_pull_request_of_a_stranger_writes_no_cache_that_a_branch_reads(
    directory: Any,  # noqa: F811
    running: Running,
    pull_request: Callable[[], Transfers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = running("main")
    main.cache("deps-1", b"of main")
    with monkeypatch.context():
        proposed = pull_request()
        assert proposed.restored("deps-1") == b"of main"
        assert proposed.cache("deps-1", b"poison")
        assert proposed.cache("deps-2", b"poison")
        assert proposed.restored("deps-1") == b"poison"
    monkeypatch.undo()
    assert main.restored("deps-1") == b"of main"
    assert main.restored("deps-2", "deps-2") is None


def test_a_scope_of_a_pull_request_is_never_that_of_a_branch() -> None:
    refs = ["main", "refs/heads/main", "x" * 255, "é" * 200, "pull", "branch"]
    branches = {Origin("push", ref).scope for ref in refs}
    assert branches.isdisjoint({Origin("pull_request", ref).scope for ref in refs})
    assert Origin("push", "refs/heads/main").scope == Origin("api", "main").scope == "branch:main:"
    assert all(len(scope.encode()) < 300 for scope in branches)


def test_above_the_quota_the_least_recently_used_goes_first(
    directory: Any,  # noqa: F811
    running: Running,
    settings: Any,
    viewer: Client,
) -> None:
    settings.CACHE_QUOTA_MB = 1
    job = running()
    for hours, key in enumerate(["a", "b", "c"]):
        with clock.shifted(timedelta(seconds=hours)):
            job.cache(key, key.encode() * 400_000 if key != "c" else b"c" * 200_000)
    with clock.shifted(timedelta(hours=2)):
        assert job.restore("a")["hit"] == "exact"
        url = job.restore("c")["url"]
    job.cache("d", b"d" * 400_000)
    assert [job.restore(key)["hit"] for key in "abcd"] == ["exact", "none", "exact", "exact"]
    assert requests.get(url, timeout=30).status_code == 200
    found = viewer.get("/pipelines/self/caches").json()
    assert (found["total_size"], found["quota"]) == (1_000_000, 1_000_000)
    assert [(cache["key"], cache["scope"]) for cache in found["caches"]] == [(key, "branch:main") for key in "acd"]
    assert files(Path(directory.location)) == 3


def test_a_pull_request_cannot_push_a_branchs_caches_out(
    directory: Any,  # noqa: F811
    running: Running,
    pull_request: Callable[[], Transfers],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.CACHE_QUOTA_MB = 1
    main = running()
    main.cache("deps", b"m" * 600_000)
    proposed = pull_request()
    proposed.cache("one", b"1" * 300_000)
    proposed.cache("two", b"2" * 300_000)
    proposed.cache("three", b"3" * 500_000)
    assert [proposed.restore(key)["hit"] for key in ("deps", "one", "two", "three")] == [
        "exact",
        "none",
        "none",
        "none",
    ]


def test_a_cache_larger_than_the_quota_is_refused(
    directory: Any,  # noqa: F811
    running: Running,
    settings: Any,
) -> None:
    settings.CACHE_QUOTA_MB = 1
    body = described(b"x", key="deps") | {"size": 1_000_001}
    problem(running().post("caches/save", body), 413, "archive_too_large")


def test_a_cache_expires_after_thirty_days_and_is_written_anew(
    directory: Any,  # noqa: F811
    running: Running,
    agent: AgentClient,
    make_job: MakeJob,
) -> None:
    running().cache("deps", b"old")
    with clock.shifted(timedelta(days=31)):
        make_job(git_ref="main")
        job = Transfers(agent, agent.take())
        assert job.restore("deps", "dep")["hit"] == "none"
        assert job.cache("deps", b"new")
        assert job.restored("deps") == b"new"


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 501, "é" * 301])
def test_a_key_that_breaks_a_rule_is_refused(directory: Any, running: Running, key: str) -> None:  # noqa: F811
    job = running()
    for path, body in (("caches/save", described(b"x", key=key)), ("caches/restore", {"key": key})):
        assert problem(job.post(path, body), 400, "invalid_input")["errors"][0]["field"] == "key"


def test_only_the_attempt_itself_stores_caches(directory: Any, running: Running) -> None:  # noqa: F811
    one, other = running(), running()
    answer = one.good("caches/save", described(b"x", key="deps"))
    problem(one.post(f"caches/{answer['cache_id']}/complete", {}), 409, "upload_incomplete")
    problem(other.post(f"caches/{answer['cache_id']}/complete", {}), 404, "cache_not_found")
    assert one.agent.finish(one.assignment).status_code == 200
    for path, body in (
        ("caches/save", described(b"x", key="deps")),
        ("caches/restore", {"key": "deps"}),
        (f"caches/{answer['cache_id']}/complete", {}),
    ):
        problem(one.post(path, body), 409, "stale_attempt")


def test_an_attempt_sends_twenty_caches_at_most(directory: Any, running: Running) -> None:  # noqa: F811
    job = running()
    for number in range(20):
        job.good("caches/save", described(b"x", key=f"{number}"))
    problem(job.post("caches/save", described(b"x", key="more")), 422, "too_many_artifacts")


def test_an_operator_deletes_the_caches_of_a_pipeline(
    directory: Any,  # noqa: F811
    running: Running,
    viewer: Client,
    operator: Client,
) -> None:
    job = running()
    for key in ("a", "b"):
        job.cache(key, b"x")
    problem(viewer.delete("/pipelines/self/caches"), 403, "forbidden")
    problem(operator.delete("/pipelines/none/caches"), 404, "pipeline_not_found")
    assert operator.delete("/pipelines/self/caches").json() == {"deleted": 2}
    assert job.restore("a")["hit"] == "none"
    assert files(Path(directory.location)) == 0
    assert operator.delete("/pipelines/self/caches").json() == {"deleted": 0}
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    assert [record.target for record in records if record.action == "caches.deleted"] == ["pipeline:self"]


def test_the_calls_of_restoring_and_saving(directory: Any, running: Running) -> None:  # noqa: F811
    job = running("feature")
    with dynamodb_calls() as metering:
        job.restore("deps", "d")
    # The agent's keys may be read once more; then the job, the pipeline, the exact keys, and each scope.
    assert metering.operations[-5:] == ["GetItem", "GetItem", "BatchGetItem", "Query", "Query"]
    answer = job.good("caches/save", described(b"x", key="deps"))
    sent(answer["uploads"][0], b"x")
    with dynamodb_calls() as metering:
        job.good("caches/save", described(b"x", key="deps"))
    assert metering.operations == ["GetItem", "GetItem", "Query"]
    with dynamodb_calls() as metering:
        job.good(f"caches/{answer['cache_id']}/complete", {})
    assert metering.operations == ["GetItem", "GetItem", "TransactWriteItems", "Query"]
    with dynamodb_calls() as metering:
        assert job.restore("deps")["hit"] == "exact"
    assert metering.operations == ["GetItem", "GetItem", "BatchGetItem"]
