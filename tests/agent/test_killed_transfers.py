"""An agent that is killed while an archive is on its way goes on with it, and needs little memory for a large one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane, FakeJob
from tests.agent.fake_store import FakeStore
from tests.agent.storage import FakeStorage

MEMORY_KIB = 100 * 1024


@pytest.fixture
def store(tmp_path: Path, plane: FakeControlPlane) -> Iterator[FakeStore]:
    storage = FakeStorage(tmp_path / "storage")
    plane.store = FakeStore(storage)
    yield plane.store
    storage.close()


def add(plane: FakeControlPlane, history: History, name: str, run: str, **members: object) -> FakeJob:
    return plane.add_job(history.url, run=run, name=name, run_id="run1", group=None, **members)  # type: ignore[arg-type]


def artifacts(path: str) -> dict[str, object]:
    return {"paths": [path], "expire_in": None}


def test_an_upload_goes_on_after_the_agent_was_killed_and_the_steps_do_not_run_again(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore, tmp_path: Path
) -> None:
    store.storage.pause = 0.5
    runs = tmp_path / "runs"
    script = f"echo run >> {runs}; echo built > out; echo a=1 > $HYBRID_CI_OUTPUT"
    job = add(plane, history, "build", script, artifacts=artifacts("out"), outputs=["a"])
    agent.start()
    plane.wait_for(lambda: store.storage.active)
    agent.kill()
    store.storage.pause = 0.0
    agent.start()
    finish = plane.finished(job)
    assert (finish["exit_code"], finish["error_message"], finish["outputs"]) == (0, None, {"a": "1"})
    assert [step["state"] for step in finish["steps"]] == ["completed"]
    assert runs.read_text() == "run\n"
    assert re.search(r"── artifacts: 1 file stored in .* after a restart of the agent", job.text)
    assert store.artifact("build").is_complete
    eventually(lambda: not list(agent.state.glob("spool/*")))
    assert not list(agent.state.glob("work/*.archives/*"))


def test_a_job_whose_agent_was_killed_while_it_saved_a_cache_does_not_run_again(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    script = f"echo run >> {runs}; echo built > out"
    caches = [{"key": "a", "paths": ["out"], "restore_keys": []}]
    job = add(plane, history, "build", script, artifacts=artifacts("out"), caches=caches)
    agent.start()
    plane.wait_for(lambda: store.stored and next(iter(store.stored.values())).is_complete)
    store.storage.pause = 1.0
    plane.wait_for(lambda: len(store.stored) == 2)
    agent.kill()
    agent.start()
    assert plane.finished(job)["error_message"] is None
    assert runs.read_text() == "run\n"
    assert "── artifacts: 1 file stored in " in job.text


def test_an_upload_that_cannot_go_on_is_reported(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    store.storage.pause = 0.5
    job = add(plane, history, "build", "echo built > out", artifacts=artifacts("out"))
    agent.start()
    plane.wait_for(lambda: store.storage.active)
    agent.kill()
    store.refusal = 413, {"code": "too_large", "detail": "The quota is used up."}
    agent.start()
    finish = plane.finished(job)
    assert finish["error_message"] == "The artifacts could not be stored: The quota is used up."
    assert "── The artifacts could not be stored" in job.text


def test_an_upload_of_a_job_that_another_agent_has_is_dropped(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    store.storage.pause = 0.5
    job = add(plane, history, "build", "echo built > out", artifacts=artifacts("out"))
    agent.start()
    plane.wait_for(lambda: store.storage.active)
    agent.kill()
    job.stale = True
    agent.start()
    eventually(lambda: not list(agent.state.glob("spool/*")))
    eventually(lambda: not list(agent.state.glob("work/*.archives/*")))
    assert job.finish is None


def test_the_time_limit_of_a_job_ends_its_upload_too(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    store.storage.faults = [500] * 10_000
    job = add(plane, history, "build", "echo built > out", artifacts=artifacts("out"))
    job.timeout = 2
    agent.start()
    finish = plane.finished(job)
    assert finish["error_message"] == "The job exceeded its time limit of 2 s."
    assert finish["steps"][0]["state"] == "completed"


@pytest.mark.nightly
def test_two_gigabytes_go_up_and_down_while_the_agent_is_killed_and_need_100_mb_of_memory(
    agent: AgentProcess, plane: FakeControlPlane, history: History, store: FakeStore, tmp_path: Path
) -> None:
    storage = store.storage
    script = "head -c 2000000000 /dev/urandom | tee big | sha256sum"
    job = add(plane, history, "build", script, artifacts=artifacts("big"))
    agent.start()
    plane.wait_for(lambda: job.finish or len(storage.puts) > 12, 900)
    peaks = [peak(agent)]
    agent.kill()
    before = {name for name in storage.puts if (storage.folder / name).exists()}
    storage.puts.clear()
    agent.start()
    plane.wait_for(lambda: job.finish or len(storage.puts) > 5, 300)
    peaks.append(peak(agent))
    assert plane.finished(job, 600)["error_message"] is None
    assert len(before) > 5
    assert not before & set(storage.puts), "parts were sent again"
    peaks.append(peak(agent))

    taking = add(plane, history, "test", "sha256sum < big", take=[{"job": "build", "node": "build"}])
    plane.wait_for(lambda: taking.finish or len(storage.gets) > 60, 300)
    peaks.append(peak(agent))
    agent.kill()
    storage.gets.clear()
    plane.requeue(taking)
    agent.start()
    assert plane.finished(taking, 600)["error_message"] is None
    peaks.append(peak(agent))
    assert len(storage.gets) < 75, "pieces were fetched again"
    sums = {found for text in (job.text, taking.text) for found in re.findall(r"\b[0-9a-f]{64}\b", text)}
    assert len(sums) == 1
    print(f"peaks of memory: {peaks} KiB")
    assert max(peaks) <= MEMORY_KIB


def peak(agent: AgentProcess) -> int:
    """The most memory that the agent had so far, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{agent.pid}/status").read_text())
    assert found is not None
    return int(found[1])
