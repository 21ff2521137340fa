"""A job extends its own run: `agent.pyz upload FILE` in a step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.step_door import UPLOAD, Serve, StepDoor, Verb, ask
from tests.agent.conftest import ROOT, AgentProcess, History
from tests.agent.fake_server import FakeControlPlane
from tests.agent.fake_store import FakeStore
from tests.agent.storage import FakeStorage

COMMAND = f'"{sys.executable}" "$HYBRID_CI_AGENT" upload'
JOBS = "jobs: {more: {steps: [{run: 'true'}]}}"


@pytest.fixture
def store(tmp_path: Path, shared_plane: FakeControlPlane) -> Iterator[FakeStore]:
    storage = FakeStorage(tmp_path / "storage")
    store = shared_plane.store = FakeStore(storage)
    yield store
    shared_plane.store = None
    storage.close()


def run(shared_plane: FakeControlPlane, history: History, script: str, **members: Any) -> Any:
    job = shared_plane.add_job(history.url, run=script, **{"name": "first", "run_id": "run1", "group": None, **members})
    shared_plane.finished(job, 30)
    return job


def test_a_step_adds_jobs_to_its_run(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    store.extension_answer = 200, {"jobs": ["more", "last (1)"]}
    script = f'echo "{JOBS}" > file.yml; {COMMAND} file.yml; {COMMAND} - < file.yml; cat "$HYBRID_CI_AGENT" | wc -c'
    job = run(shared_plane, history, script)
    assert job.finish["error_message"] is None
    assert store.extensions == [f"{JOBS}\n"] * 2
    assert "added to the run: more, last (1)\n" in job.text
    assert "── 2 jobs added to the run: more, last (1)\n" in job.text


def test_a_step_learns_what_is_wrong_with_its_file(
    shared_agent: AgentProcess, shared_plane: FakeControlPlane, history: History, store: FakeStore
) -> None:
    errors = [{"field": "jobs.more", "line": 3, "message": "must have steps"}]
    store.extension_answer = 422, {"code": "definition_invalid", "detail": "It is not valid.", "errors": errors}
    codes = f"{COMMAND} missing.yml; echo code $?; {COMMAND} number; echo code $?"
    job = run(shared_plane, history, f"set +e; {codes}")
    assert "jobs.more (line 3): must have steps\ncode 1\n" in job.text
    assert "agent upload: missing.yml cannot be read: " in job.text
    assert "code 2\n" in job.text


def test_outside_of_a_step_there_is_nothing_to_upload_to(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "HYBRID_CI_OUTPUT"}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "upload", "-"], cwd=ROOT, env=env, input=b"", capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"this works only in a step of a job" in done.stderr


def test_a_hostile_folder_cannot_make_the_agent_read_or_replace_other_files(tmp_path: Path) -> None:
    folder, secret, served = tmp_path / "exchange", tmp_path / "secret", list[str]()
    folder.mkdir()
    secret.write_text("secret")
    (folder / "upload-0000000000000000.request").symlink_to(secret)
    os.mkfifo(folder / "upload-0000000000000001.request")
    (folder / "upload-0000000000000002.request").mkdir()
    (folder / "upload-../x.request".replace("/", "_")).write_text("no request")

    def serve(text: str) -> tuple[int, str]:
        served.append(text)
        return 0, "done"

    before = open_files()
    door = StepDoor(folder, {UPLOAD: serve})
    door.open()
    answers = [ask(folder, UPLOAD, text, patience=10) for text in ("text", "x" * 600_000)]
    door.close()
    assert open_files() <= before, "the agent does not close what it opens"
    assert answers == [(0, "done")] * 2
    assert [len(text) for text in served] == [4, 512 * 1024 + 1]
    assert secret.read_text() == "secret"


def test_each_verb_has_a_function_and_a_size_of_its_own(tmp_path: Path) -> None:
    def measure(verb: Verb) -> Serve:
        return lambda text: (0, f"{verb.name} {len(text)}")

    verbs = [Verb("first", 4), Verb("second", 2)]
    door = StepDoor(tmp_path, {verb: measure(verb) for verb in verbs})
    door.open()
    printed = [ask(tmp_path, verb, "x" * 100, patience=10)[1] for verb in verbs]
    with pytest.raises(TimeoutError):
        ask(tmp_path, Verb("unknown", 9), "x", patience=1)
    door.close()
    assert printed == ["first 5", "second 3"]


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_step_does_not_wait_for_ever_for_an_agent_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        ask(tmp_path, UPLOAD, "text", patience=0.2)
    assert not list(tmp_path.iterdir())
