"""Jobs that the real agent program runs from a real git repository."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import processes
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane


@pytest.fixture
def run(shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History) -> Any:
    """Add a job to the shared control plane and wait for its end; returns the job."""

    def run(git_ref: str = "main", **arguments: Any) -> Any:
        job = shared_plane.add_job(arguments.pop("repository", history.url), git_ref, **arguments)
        shared_plane.finished(job, 30)
        return job

    return run


@pytest.mark.parametrize(
    ("ref", "number"),
    [("main", 3), ("v1", 2), ("feature/slash", 2), ("refs/heads/main", 3), ("refs/tags/v1", 2), ("HEAD", 3)],
)
def test_a_branch_or_tag_is_run_at_its_commit(ref: str, number: int, run: Any, history: History) -> None:
    job = run(ref, run="echo number $(cat number) of $HYBRID_CI_COMMIT")
    commit = history.commits[number - 1]
    assert job.finish["exit_code"] == 0
    assert job.finish["error_message"] is None
    assert job.finish["commit"] == commit
    assert f"number {number} of {commit}" in job.text


@pytest.mark.parametrize("index", [0, 1, 2])
def test_each_commit_is_run_by_its_id(index: int, run: Any, history: History) -> None:
    commit = history.commits[index]
    job = run(commit, run="cat number; git rev-list --count HEAD")
    assert job.finish["commit"] == commit
    assert f"{index + 1}\n1\n" in job.text, "the checkout is not shallow"


def test_a_name_of_both_a_branch_and_a_tag_means_the_branch(run: Any, history: History) -> None:
    assert run("both").finish["commit"] == history.commits[0]


def test_an_abbreviated_commit_is_found(run: Any, history: History) -> None:
    assert run(history.commits[0][:10]).finish["commit"] == history.commits[0]


def test_a_plain_path_is_a_repository_too(run: Any, history: History) -> None:
    assert run(repository=str(history.path)).finish["exit_code"] == 0


def test_the_log_begins_with_a_header_and_names_each_step(run: Any, history: History) -> None:
    job = run(steps=[{"name": "lint", "run": "echo linted"}, {"name": "test", "run": "printf 'no newline'"}])
    lines = job.log.decode().splitlines()
    assert lines[0] == "── attempt 1 · agent tester · pipeline example · ref main"
    assert lines[2].startswith(f"── commit {history.commits[2]} · branch fetched in ")
    assert lines[3:6] == ["── step 1/2: lint", "── $ echo linted", "linted"]
    assert lines[6].startswith("── step 1/2: lint · exit code 0 after ")
    assert lines[7:10] == ["── step 2/2: test", "── $ printf 'no newline'", "no newline"]
    assert lines[10].startswith("── step 2/2: test · exit code 0 after ")


def test_the_log_shows_each_steps_commands(run: Any) -> None:
    script = 'if true; then\n\techo "it is $SECRET"  \nfi\n# \u202edone\n'
    job = run(steps=[{"name": "all", "run": script, "env": {"SECRET": "s3cret"}}])
    echoed = [line for line in job.log.decode().splitlines() if line.startswith(("── $ ", "── > "))]
    assert echoed == [
        "── $ if true; then",
        '── >     echo "it is $SECRET"',
        "── > fi",
        "── > # \ufffddone",
    ]
    assert job.log.count(b"s3cret") == 1


def test_a_failing_step_ends_the_job(run: Any) -> None:
    job = run(
        steps=[
            {"name": "good", "run": "true"},
            {"name": "bad", "run": "echo before\nexit 3"},
            {"name": "never", "run": "echo unreachable"},
        ]
    )
    assert job.finish["exit_code"] == 3
    assert job.finish["error_message"] == "Step 'bad' ended with exit code 3."
    assert [(step["state"], step["exit_code"]) for step in job.finish["steps"]] == [
        ("completed", 0),
        ("failed", 3),
        ("skipped", None),
    ]
    assert "unreachable" not in job.text
    assert job.finish["steps"][0]["started_at"] < job.finish["steps"][0]["completed_at"]


def test_the_first_failing_command_ends_a_step(run: Any) -> None:
    job = run(run="false\necho unreachable")
    assert job.finish["exit_code"] == 1
    assert "unreachable" not in job.text


def test_a_step_that_a_signal_ends_has_a_shell_s_exit_code(run: Any) -> None:
    assert run(run="kill -9 $$").finish["exit_code"] == 137


def test_a_step_sees_its_own_environment_and_no_secrets_of_the_machine(run: Any, shared_agent: AgentProcess) -> None:
    job = run(
        steps=[{"name": "show", "run": "env; cat", "env": {"C": "step", "GREETING": "größe"}}],
        env={"B": "job", "C": "job", "HYBRID_CI_ATTEMPT": "99"},
        pipeline_env={"A": "pipeline", "B": "pipeline", "C": "pipeline"},
    )
    lines = job.text.splitlines()
    for line in ("A=pipeline", "B=job", "C=step", "GREETING=größe", "CI=true", "HYBRID_CI_STEP=show"):
        assert line in lines
    for line in (f"HYBRID_CI_JOB_ID={job.job_id}", "HYBRID_CI_ATTEMPT=1", "HYBRID_CI_GIT_REF=main"):
        assert line in lines
    assert "HYBRID_CI_TOKEN" not in job.text
    assert "SECRET_OF_THE_MACHINE" not in job.text


def test_a_step_that_cannot_start_fails_the_job(run: Any) -> None:
    job = run(steps=[{"name": "odd", "run": "true", "env": {"A": "null\0byte"}}, {"name": "never", "run": "true"}])
    assert job.finish["exit_code"] == 126
    assert "cannot start /bin/sh" in job.text
    job = run(steps=[{"name": "odd", "run": "true", "env": {"A": "half of a pair: \ud800"}}])
    assert [step["state"] for step in job.finish["steps"]] == ["failed"]
    assert "could not run the job" in job.finish["error_message"]


def test_twenty_megabytes_of_log_arrive_complete_and_need_little_memory(
    run: Any, shared_plane: FakeControlPlane, shared_agent: AgentProcess
) -> None:
    size = 20_000_000
    # Random bytes cannot be compressed.
    job = run(run=f"head -c {size} /dev/urandom > data; echo SUM $(sha256sum data); cat data")
    assert job.finish["exit_code"] == 0
    _, _, printed = job.log.partition(b"\nSUM ")
    expected, _, rest = printed.partition(b" data\n")
    assert hashlib.sha256(rest[:size]).hexdigest() == expected.decode().strip()
    status = Path(f"/proc/{shared_agent.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 80_000, f"{peak} kB at the peak"


def test_invalid_utf_8_arrives_unchanged(run: Any) -> None:
    job = run(run=r"printf '\377\376\000\200caf\351\n'")
    assert b"\xff\xfe\x00\x80caf\xe9\n" in job.log


def test_output_arrives_while_the_step_runs(
    shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History, tmp_path: Path
) -> None:
    """The step goes on only when the test has seen what it has printed so far."""
    wait = f"while [ ! -e {tmp_path}/$i ]; do sleep 0.05; done"
    job = shared_plane.add_job(history.url, run=f"for i in 1 2 3; do echo line $i; {wait}; done; echo err >&2")
    for number in (1, 2, 3):
        shared_plane.wait_for_output(job, f"line {number}\n")
        (tmp_path / str(number)).touch()
    shared_plane.finished(job)
    assert "err" in job.text


def test_a_step_that_exceeds_its_time_limit_is_stopped(run: Any) -> None:
    job = run(
        steps=[
            {"name": "slow", "run": "trap 'echo tidied; exit 0' TERM; sleep 60 & wait", "timeout": 1},
            {"name": "never", "run": "true"},
        ]
    )
    assert [step["state"] for step in job.finish["steps"]] == ["timed_out", "skipped"]
    assert job.finish["error_message"] == "Step 'slow' exceeded its time limit of 1 s."
    assert job.finish["exit_code"] is None
    assert "tidied" in job.text


def test_a_job_that_exceeds_its_time_limit_is_killed_if_it_ignores_sigterm(run: Any) -> None:
    began = time.monotonic()
    job = run(run="trap '' TERM; while true; do sleep 1; done", timeout=2)
    assert job.finish["steps"][0]["state"] == "timed_out"
    assert job.finish["error_message"] == "The job exceeded its time limit of 2 s."
    assert time.monotonic() - began < 10


DAEMON = """\
python3 - <<'END'
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("pid", "w").write(str(os.getpid()))
        %s
    os._exit(0)
os.wait()
END
while [ ! -s pid ]; do sleep 0.05; done
echo daemon $(cat pid)
"""
SLEEP = "time.sleep(300)"
SLEEP_WITHOUT_ENVIRONMENT = "os.execve('/bin/sleep', ['sleep', '300'], {})"


@pytest.mark.parametrize("daemon", [SLEEP, SLEEP_WITHOUT_ENVIRONMENT])
def test_a_daemon_that_a_step_forks_ends_with_the_step(daemon: str, run: Any) -> None:
    began = time.monotonic()
    job = run(run=DAEMON % daemon)
    assert job.finish["exit_code"] == 0
    pid = int(job.text.partition("\ndaemon ")[2].split()[0])
    assert pid not in processes.process_table()
    assert time.monotonic() - began < 15


def test_the_workspace_is_fresh_and_removed_afterwards(run: Any, shared_agent: AgentProcess) -> None:
    first = run(run="pwd; ls -a; mkdir -p deep/er; touch deep/er/file; chmod -R a-w deep; echo left > behind")
    second = run(run="pwd; test ! -e behind")
    assert second.finish["exit_code"] == 0
    for job in (first, second):
        eventually(
            partial(lambda job_id: not list((shared_agent.state / "work").glob(f"agent-*/{job_id}*")), job.job_id)
        )


def test_a_repository_that_does_not_exist_fails_the_job(run: Any, tmp_path: Path) -> None:
    job = run(repository=f"file://{tmp_path}/nowhere.git")
    assert job.finish["exit_code"] is None
    assert job.finish["commit"] is None
    assert "does not exist" in job.finish["error_message"] or "not appear" in job.finish["error_message"]
    assert job.finish["error_message"] in job.text
    assert [step["state"] for step in job.finish["steps"]] == ["skipped"]


@pytest.mark.parametrize("ref", ["no-such-branch", "0" * 40, "abcdef1"])
def test_a_ref_that_does_not_exist_fails_the_job(ref: str, run: Any) -> None:
    job = run(ref)
    assert "could not be fetched" in job.finish["error_message"]
    assert ref in job.finish["error_message"]


@pytest.mark.parametrize(
    ("repository", "ref"),
    [
        ("--upload-pack=touch {mark}", "main"),
        ("ext::sh -c touch% {mark}", "main"),
        ("-u{mark}", "main"),
        ("{url}", "--upload-pack=touch {mark}"),
        ("{url}", "--output={mark}"),
        ("{url}", "main; touch {mark}"),
        ("{url}", "$(touch {mark})"),
        ("{url}", "main:refs/heads/other"),
        ("{url}", "+main"),
        ("{url};touch {mark}", "main"),
        ("{url}", ""),
    ],
)
def test_an_address_or_ref_cannot_pass_options_or_commands(
    repository: str, ref: str, run: Any, history: History, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    values = {"mark": mark, "url": history.url}
    job = run(ref.format(**values), repository=repository.format(**values))
    assert job.finish["exit_code"] is None
    assert "could not be fetched" in job.finish["error_message"]
    assert not mark.exists()


def test_logs_and_reports_hide_the_credentials_in_an_address(run: Any, shared_agent: AgentProcess) -> None:
    job = run(repository="http://robot:hunter2%21@127.0.0.1:1/repository.git")
    assert "could not be fetched" in job.finish["error_message"]
    for text in (job.text, str(job.finish), shared_agent.output):
        assert "hunter2" not in text
    assert "http://127.0.0.1:1/repository.git" in job.text


DEFINITION = "steps:\n  - name: größe\n    run: make test\n"


def test_the_repository_s_own_definition_is_read_and_run(run: Any, history: History) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", DEFINITION.encode(), "with-definition")
    answer = {"steps": [{"name": "ok", "run": "echo $X", "env": {}, "timeout": None}], "env": {"X": "x"}, "timeout": 60}
    job = run(branch, from_repository=True, definition_answer=(200, answer))
    assert job.sent == {"attempt": 1, "commit": job.finish["commit"], "text": DEFINITION}
    assert job.finish["exit_code"] == 0
    assert [step["name"] for step in job.finish["steps"]] == ["ok"]
    assert "\nx\n" in job.text


def test_an_invalid_definition_fails_the_job_and_names_the_line(run: Any, history: History) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"steps: []\n", "with-invalid-definition")
    problem = {
        "code": "definition_invalid",
        "detail": "The definition is not valid.",
        "errors": [{"field": "steps", "line": 1, "message": "needs at least one step"}],
    }
    job = run(branch, from_repository=True, definition_answer=(422, problem))
    assert job.finish["error_message"] == ".hybrid-ci.yml is not valid:\nsteps (line 1): needs at least one step"
    assert "steps (line 1): needs at least one step" in job.text
    assert job.finish["steps"] == []


@pytest.mark.parametrize(
    ("field", "message"),
    [("parameters.target", "must be one of a, b, not 'c'"), ("environment", "must be production, not frozen")],
)
def test_what_a_run_asks_for_and_its_file_does_not_take_is_no_mistake_of_the_file(
    run: Any, history: History, field: str, message: str
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"jobs: {}\n", "with-definition-that-lacks-something")
    error = {"field": field, "message": message}
    problem = {"code": "definition_invalid", "detail": f"{field}: {message}", "errors": [error]}
    job = run(branch, from_repository=True, definition_answer=(422, problem))
    assert job.finish["error_message"] == f"What the run asks for does not fit .hybrid-ci.yml:\n{field}: {message}"


def test_a_missing_definition_fails_the_job(run: Any) -> None:
    job = run("main", from_repository=True)
    assert job.finish["error_message"] == "The repository has no .hybrid-ci.yml at this commit."


def test_a_symbolic_link_as_definition_is_not_followed(run: Any, history: History, shared_agent: AgentProcess) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", shared_agent.state / "identity.json", "with-link")
    job = run(branch, from_repository=True)
    assert job.sent is None
    assert "cannot be read" in job.finish["error_message"]


def test_a_definition_that_is_not_text_fails_the_job(run: Any, history: History) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", b"\xff\xfe", "with-bytes")
    assert run(branch, from_repository=True).finish["error_message"] == ".hybrid-ci.yml is not UTF-8 text."


def test_a_job_that_moves_to_another_machine_is_dropped(
    shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History
) -> None:
    branch = history.commit_entry(".hybrid-ci.yml", DEFINITION.encode(), "that-moves")
    job = shared_plane.add_job(
        history.url, branch, from_repository=True, definition_answer=(409, {"code": "job_moved", "detail": "moved"})
    )
    shared_plane.wait_for(lambda: job.sent)
    heartbeats = len(shared_plane.heartbeats)
    shared_plane.wait_for(
        lambda: any(job.job_id not in str(heartbeat["running"]) for heartbeat in shared_plane.heartbeats[heartbeats:]),
        timeout=15,
    )
    assert job.finish is None
    assert not list((shared_agent.state / "spool").glob(f"{job.job_id}*"))
