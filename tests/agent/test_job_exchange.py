"""What a job hands to later jobs, and takes from earlier ones: artifacts, caches and outputs, by the real program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import FakeControlPlane, FakeJob
from tests.agent.fake_store import FakeStore
from tests.agent.storage import FakeStorage

SHELL = "mkdir -p dist; echo built > dist/program; chmod 750 dist/program; ln -s program dist/latest"


@pytest.fixture
def store(tmp_path: Path, shared_plane: FakeControlPlane) -> Iterator[FakeStore]:
    storage = FakeStorage(tmp_path / "storage")
    store = shared_plane.store = FakeStore(storage)
    yield store
    shared_plane.store = None
    storage.close()


@pytest.fixture
def run(store: FakeStore, shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History) -> Any:
    """Add a job to the shared control plane and wait for its end; returns the job."""

    def run(script: str, name: str = "build", **members: Any) -> FakeJob:
        members = {"run_id": "run1", "group": None, **members}
        job = shared_plane.add_job(history.url, run=script, name=name, **members)
        shared_plane.finished(job, 30)
        return job

    return run


def artifacts(*paths: str, **members: Any) -> dict[str, Any]:
    return {"paths": list(paths), "expire_in": None, **members}


def test_a_needed_jobs_artifacts_are_there_before_the_steps(run: Any, store: FakeStore) -> None:
    built = run(SHELL, artifacts=artifacts("dist", expire_in=7200))
    assert built.finish["error_message"] is None
    report = store.artifact("build").report
    assert report["files"] == [{"path": "dist/program", "size": 6, "mode": 0o750}]
    assert (report["name"], report["files_total"], report["expire_in"]) == ("artifacts", 2, 7200)
    assert "── artifacts: 2 files stored in " in built.text

    take = [{"job": "build", "node": "build"}, {"job": "lint", "node": "lint"}]
    tested = run("ls -l dist; cat dist/latest", "test", take=take)
    assert tested.finish["exit_code"] == 0
    assert "-rwxr-x---" in tested.text
    assert "latest -> program" in tested.text
    assert "── artifacts of build: 2 files, 6 bytes, fetched in " in tested.text
    assert "── artifacts of lint: it has stored none" in tested.text


def test_a_finish_report_repeats_the_run_the_name_and_the_group(run: Any) -> None:
    finish = run("true", "test (3.12)", group={"name": "deploy", "limit": 1}).finish
    assert (finish["run_id"], finish["name"], finish["group"]) == (
        "run1",
        "test (3.12)",
        {"name": "deploy", "limit": 1},
    )


def test_a_step_learns_the_ref_of_the_run_also_if_a_commit_is_checked_out(run: Any) -> None:
    job = run("echo at $HYBRID_CI_GIT_REF", ref="feature")
    assert "\nat feature\n" in job.text
    assert " · ref feature\n" in job.text


def test_a_declared_artifact_that_does_not_exist_fails_the_job(run: Any) -> None:
    finish = run("true", artifacts=artifacts("dist/*", "out")).finish
    assert finish["error_message"].startswith("The artifacts could not be stored: no file matches dist/*, out.")
    assert finish["agent_fault"] is None


def test_a_pattern_that_matches_nothing_is_named_in_the_log(run: Any) -> None:
    job = run(SHELL, artifacts=artifacts("dist", "coverage.*"))
    assert job.finish["error_message"] is None
    assert "── artifacts: nothing matches coverage.*" in job.text


def test_artifacts_that_the_control_plane_refuses_fail_the_job(run: Any, store: FakeStore) -> None:
    store.refusal = 413, {"code": "too_large", "detail": "The quota of the pipeline is used up."}
    finish = run(SHELL, artifacts=artifacts("dist")).finish
    assert finish["error_message"] == "The artifacts could not be stored: The quota of the pipeline is used up."
    assert finish["agent_fault"] is None


def test_a_failed_job_keeps_its_artifacts_and_outputs(run: Any, store: FakeStore) -> None:
    script = f"{SHELL}; echo count=3 >> $HYBRID_CI_OUTPUT; exit 3"
    job = run(script, artifacts=artifacts("dist"), outputs=["count"])
    assert (job.finish["exit_code"], job.finish["outputs"]) == (3, {"count": "3"})
    assert job.finish["error_message"] == "Step 'only' ended with exit code 3."
    assert store.artifact("build").is_complete


def test_a_presigned_url_is_in_no_log(run: Any, store: FakeStore, shared_agent: AgentProcess) -> None:
    store.storage.faults = [500, 403, 0]
    job = run(SHELL, artifacts=artifacts("dist"), caches=[{"key": "a", "paths": ["dist"], "restore_keys": []}])
    assert job.finish["error_message"] is None
    for text in (job.text, shared_agent.output, str(job.finish)):
        assert "X-Amz-Signature" not in text
        assert store.storage.url not in text


def test_a_cache_is_restored_before_the_steps_and_saved_after_them(run: Any, store: FakeStore) -> None:
    caches = [{"key": "pip-${{ hashFiles('number', 'missing') }}", "paths": [".pip"], "restore_keys": ["pip-"]}]
    first = run("ls .pip || true; mkdir .pip; echo wheel > .pip/wheel", "first", caches=caches)
    assert ": there is none yet" in first.text
    assert ": saved in " in first.text
    (cache,) = store.stored.values()
    assert len(cache.report["key"]) == 4 + 64
    second = run("cat .pip/wheel; echo 2 > .pip/wheel", "second", caches=caches)
    assert "wheel\n" in second.text
    assert f"── cache {cache.report['key']}: restored, 1 file, 6 bytes, in " in second.text
    assert len(store.stored) == 1, "it was written again"
    changed = run("cat .pip/wheel", "third", caches=[{**caches[0], "key": "pip-other"}])
    assert f"── cache pip-other: restored from {cache.report['key']}" in changed.text
    assert len(store.stored) == 2


def test_a_failed_job_saves_no_cache(run: Any, store: FakeStore) -> None:
    run("mkdir .pip; touch .pip/broken; exit 1", caches=[{"key": "pip", "paths": [".pip"]}])
    assert not store.stored


@pytest.mark.parametrize("what", ["refused", "gone", "broken", "hostile"])
def test_a_cache_that_fails_is_only_a_warning(what: str, run: Any, store: FakeStore) -> None:
    cache = {"key": "pip", "paths": ["../out"] if what == "hostile" else ["dist"]}
    if what in ("gone", "broken"):
        run(SHELL, "first", caches=[cache])
        path = store.storage.folder / next(iter(store.stored))
        path.write_bytes(b"x" * path.stat().st_size) if what == "broken" else path.unlink()
    elif what == "refused":
        store.refusal = 403, {"code": "some_newer_code", "detail": "Not for this branch."}
    job = run("true", "second", caches=[cache])
    assert (job.finish["exit_code"], job.finish["error_message"]) == (0, None)
    assert "── warning: cache pip could not be " in job.text


def test_outputs_are_reported(run: Any) -> None:
    script = 'echo version=1.2 >> "$HYBRID_CI_OUTPUT"; printf "url=https://a/?b=c\\nversion=1.3\\r\\nother=x"'
    job = run(f"{script} >> $HYBRID_CI_OUTPUT", outputs=["version", "url", "never"])
    assert job.finish["outputs"] == {"version": "1.3", "url": "https://a/?b=c"}
    assert "── output other is ignored: the job does not declare it under outputs" in job.text
    assert "── output never was not written" in job.text


def test_invalid_outputs_fail_the_job(run: Any) -> None:
    finish = run("echo nonsense > $HYBRID_CI_OUTPUT", outputs=["a"]).finish
    assert finish["error_message"] == (
        "The file $HYBRID_CI_OUTPUT is not valid: line 1 must be NAME=value, not 'nonsense'."
    )


def test_a_job_without_outputs_may_write_what_it_likes(run: Any) -> None:
    assert run("echo nonsense > $HYBRID_CI_OUTPUT").finish["error_message"] is None
