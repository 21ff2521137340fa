"""Runs and jobs: started, listed, explained, cancelled, and run again."""

from collections.abc import Callable

import pytest

from apps.jobs.services import job_create
from tests.cli.conftest import hci
from tests.clients import Client
from tests.conftest import OPERATOR
from tests.jobs.runs import DIAMOND, Worker
from tests.signing import AgentClient


def test_a_run_is_started_with_its_ref_and_parameters(user: Client, pipeline: str) -> None:
    created = hci("run", pipeline, "--ref", "v1", "--json").json
    run = user.get(f"/runs/{created['run_id']}").json()
    assert (run["pipeline"], run["git_ref"], run["event"]) == (pipeline, "v1", "api")
    assert hci("run", pipeline, "-q").out.strip() in hci("runs", "-q").out.split()
    wrong = hci("run", pipeline, "-p", "colour=red")
    assert (wrong.code, "colour" in wrong.err) == (2, True)
    assert hci("run", pipeline, "-p", "colour").code == 2
    assert hci("run", "nothing").code in (2, 3)


def test_lists_follow_all_pages_and_end_at_the_limit(
    user: Client, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hci.client._PAGE_LIMIT", 10)
    made = [str(job_create(actor=OPERATOR, pipeline=pipeline).run_id) for _ in range(32)]
    whole = hci("runs", "--json").json
    assert [run["run_id"] for run in whole["runs"]] == made[::-1]
    assert whole["next_cursor"] is None
    few = hci("runs", "--limit", "2", "--json").json
    assert [run["run_id"] for run in few["runs"]] == made[:-3:-1]
    assert few["next_cursor"]
    table = hci("runs")
    assert len(table.out.splitlines()) == 31
    assert "--limit" in table.err


def test_a_table_fits_the_terminal_with_whole_ids_and_a_pipe_gets_whole_values(user: Client, pipeline: str) -> None:
    ref = "feature/" + "long-" * 40
    job_create(actor=OPERATOR, pipeline=pipeline, git_ref=ref)
    (run,) = hci("runs", "--json").json["runs"]
    terminal = hci("runs", "--color", "never", terminal=True)
    assert all(len(line) <= 100 for line in terminal.out.splitlines())
    assert run["run_id"] in terminal.out
    assert "…" in terminal.out
    assert ref in hci("runs").out
    assert "\x1b[" in hci("runs", terminal=True).out
    assert "\x1b[" not in hci("runs").out


def test_why_says_what_a_job_waits_for_and_how_it_ended(
    user: Client, make_job: Callable[..., str], agent: AgentClient
) -> None:
    job = make_job(labels=["gpu"])
    said = hci("why", job).out
    assert "gpu" in said
    done = make_job()
    assignment = agent.take()
    steps = [{"name": "lint", "state": "failed", "exit_code": 3}]
    agent.finish(assignment, exit_code=3, steps=steps, error_message=None)
    assert hci("why", done).out.splitlines()[0] == "The job failed with exit code 3."
    assert hci("why", done, "--json").json["job_id"] == done
    for unknown in ("01m0000000000000000000000x", "nope"):
        refused = hci("why", unknown)
        assert (refused.code, "There is no such job" in refused.err) == (3, True)


def test_jobs_of_a_run_and_jobs_by_status_are_listed(user: Client, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    names = [job["name"] for job in hci("jobs", "--run", run_id, "--json").json["jobs"]]
    assert sorted(names) == ["build", "lint", "pipeline", "ship", "test"]
    assert "build" in hci("jobs", "--run", run_id).out
    assert "build" in hci("jobs", "--status", "queued").out
    assert hci("jobs", "--run", run_id, "--status", "queued").code == 2


def test_a_run_is_cancelled_and_run_again_whole_or_what_failed(user: Client, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id)
    worker.finish_named(run_id, lint=1)

    def statuses() -> dict[str, str]:
        return {job["name"]: job["status"] for job in hci("jobs", "--run", run_id, "--json").json["jobs"]}

    assert statuses()["lint"] == "failed"
    assert hci("retry", run_id, "--failed", "-q").out.strip() == run_id
    assert (statuses()["lint"], statuses()["test"]) == ("queued", "completed")
    assert "cancel" in hci("cancel", run_id).out
    assert statuses()["lint"] == "cancelled"
    assert hci("retry", run_id, "--json").json["run_id"] == run_id
    assert statuses()["build"] == "queued"
    assert hci("cancel", "01m0000000000000000000000x").code == 3


def test_a_job_is_cancelled_and_run_again(user: Client, make_job: Callable[..., str]) -> None:
    job = make_job()
    assert hci("cancel", job, "--json").json["status"] == "cancelled"
    ended = hci("logs", "-f", job)
    assert (ended.code, ended.out) == (1, "")
    again = hci("retry", job, "-q").out.strip()
    assert user.get(f"/jobs/{again}").json()["retry_of"] == job
    assert hci("retry", job, "--failed").code == 2
    refused = hci("retry", again)
    assert refused.code == 4


def test_a_followed_run_of_several_jobs_names_each_line_and_fails_with_it(user: Client, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id, build=1)
    from hci.client import Client as HciClient
    from hci.follow import RunWatch

    said: list[object] = []
    client = HciClient(user.server, user.token)
    run = RunWatch(client, run_id, colour=False, notice=said.append).follow()
    client.close()
    assert run["status"] == "failed"
    assert any(str(line).startswith("build: failed") for line in said)
    assert any(str(line).startswith("ship: skipped") for line in said)


def test_agents_are_listed_drained_and_resumed(boss: Client, agent: AgentClient) -> None:
    agent.heartbeat()
    assert hci("agents", "-q").out.split() == [agent.agent_id]
    assert "build-1" in hci("agents").out
    assert hci("agents", "--json", "--status", "dead").json["agents"] == []
    assert hci("agents", "drain", agent.agent_id, "--json").json["status"] == "draining"
    assert "draining" in hci("agents").out
    assert "healthy" in hci("agents", "resume", agent.agent_id).out
    assert hci("agents", "drain", "01m0000000000000000000000x").code == 3


def test_an_operator_does_not_drain_agents(user: Client, agent: AgentClient) -> None:
    assert hci("agents", "drain", agent.agent_id).code == 4
