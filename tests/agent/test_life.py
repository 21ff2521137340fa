"""How the agent program starts and ends: enrolment, signals, kill -9, revoked keys."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import stat
import sys
from functools import partial
from pathlib import Path

from agent import clock, processes
from agent.bundle import agent_bundle
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import LOSE, TOKEN, FakeControlPlane


def test_an_agent_enrols_once_and_needs_no_token_afterwards(agent: AgentProcess, plane: FakeControlPlane) -> None:
    agent.start("--region=eu", "--labels=linux, gpu", "--slots=3")
    plane.wait_for(lambda: plane.heartbeats)
    ((key, body),) = plane.enrol_requests
    assert key
    assert {name: body[name] for name in ("token", "name", "region", "slots")} == {
        "token": TOKEN,
        "name": "tester",
        "region": "eu",
        "slots": 3,
    }
    # A machine with podman or docker has the label of containers, too.
    assert body["labels"] in (["linux", "gpu"], ["linux", "gpu", "container"])
    assert all(body[name] for name in ("hostname", "os", "arch", "version"))
    assert stat.S_IMODE((agent.state / "identity.json").stat().st_mode) == 0o600
    agent.stop()
    heartbeats = len(plane.heartbeats)
    agent.start(token=None, url="")
    plane.wait_for(lambda: len(plane.heartbeats) > heartbeats)
    assert len(plane.enrol_requests) == 1
    assert TOKEN not in agent.output
    assert json.loads((agent.state / "identity.json").read_text())["workload_identity_secret"] not in agent.output


def test_an_enrolment_whose_answer_was_lost_is_retried_with_the_same_key(
    agent: AgentProcess, plane: FakeControlPlane
) -> None:
    plane.fail("/enrol", LOSE)
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    keys = [key for key, _ in plane.enrol_requests]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert len(plane.enrolments) == 1


def test_an_agent_that_was_killed_while_it_enrolled_retries_with_the_same_key(
    agent: AgentProcess, plane: FakeControlPlane
) -> None:
    plane.fail("/enrol", LOSE, times=10)
    agent.start()
    plane.wait_for(lambda: plane.enrolments)
    agent.kill()
    plane.faults.clear()
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    assert len({key for key, _ in plane.enrol_requests}) == 1
    assert len(plane.enrolments) == 1


def test_without_token_and_identity_the_agent_names_what_is_missing(agent: AgentProcess) -> None:
    assert agent.start(token=None).exit_code() == 2
    assert f"This machine is not enrolled ({agent.state / 'identity.json'} is missing)." in agent.output
    assert "Give an enrolment token with HYBRID_CI_TOKEN, --token-file or --token." in agent.output


def test_without_an_address_the_agent_says_so(agent: AgentProcess) -> None:
    agent.start("--url=", token=None)
    assert agent.exit_code() == 2
    assert "The address of the control plane is missing. Give it with --url or HYBRID_CI_URL." in agent.output


def test_an_invalid_option_ends_the_agent_with_what_it_must_be(agent: AgentProcess) -> None:
    assert agent.start("--slots=many").exit_code() == 2
    assert "argument --slots: must be a whole number of at least 1" in agent.output
    assert agent.start("--grace=long").exit_code() == 2
    assert "argument --grace: must be a number between 0 and 3600" in agent.output


def test_an_enrolment_that_is_refused_ends_the_agent_and_names_the_invalid_fields(agent: AgentProcess) -> None:
    assert agent.start("--name=two words").exit_code() == 3
    refusal = "400 invalid_input: The request is not valid.; name: must be a name"
    assert f"The control plane refused to enrol this machine ({refusal}). Check the token" in agent.output


def test_a_token_that_is_refused_ends_the_agent_and_is_not_printed(agent: AgentProcess) -> None:
    assert agent.start(token="hce_wrong").exit_code() == 3
    assert "The enrolment token is not valid." in agent.output
    assert "hce_wrong" not in agent.output


def test_a_token_may_come_from_a_file(agent: AgentProcess, plane: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    agent.start(f"--token-file={tmp_path / 'token'}", token=None)
    plane.wait_for(lambda: plane.heartbeats)


def test_two_agents_never_share_a_state_directory(agent: AgentProcess, plane: FakeControlPlane, tmp_path: Path) -> None:
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    second = AgentProcess(tmp_path / "second", plane, f"--state-dir={agent.state}").start()
    assert second.exit_code() == 4
    assert str(agent.state) in second.output


def test_a_machine_needs_only_the_bundle(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    bundle = tmp_path / "agent.pyz"
    bundle.write_bytes(agent_bundle())
    job = plane.add_job(history.url, run="sleep 0.5; cat number")
    agent.start(command=[sys.executable, "-I", str(bundle)])
    plane.wait_for(lambda: job.starts)
    # An update of the file does not disturb the running agent.
    bundle.write_bytes(b"something else")
    assert plane.finished(job)["exit_code"] == 0
    agent.signal(signal.SIGTERM)
    assert agent.exit_code() == 0


def test_a_heartbeat_reports_the_load_of_the_machine(agent: AgentProcess, plane: FakeControlPlane) -> None:
    agent.start()
    plane.wait_for(lambda: len(plane.heartbeats) > 1)
    heartbeat = plane.heartbeats[-1]
    assert heartbeat["agent_id"] == "agent1"
    assert 0 <= heartbeat["cpu_percent"] <= 100
    assert 0 < heartbeat["memory_percent"] < 100
    assert 0 < heartbeat["disk_percent"] <= 100
    assert heartbeat["uptime_seconds"] in range(10)
    assert (heartbeat["jobs_queued"], heartbeat["jobs_completed"], heartbeat["free_slots"], heartbeat["running"]) == (
        0,
        0,
        1,
        [],
    )


def test_the_time_of_heartbeats_never_goes_back(agent: AgentProcess, plane: FakeControlPlane) -> None:
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    agent.stop()
    ahead = clock.epoch() + 100
    (agent.state / "heartbeat.json").write_text(json.dumps({"created": ahead}))
    plane._created = ahead
    agent.start()
    count = len(plane.heartbeats)
    plane.wait_for(lambda: len(plane.heartbeats) > count + 1)
    assert plane._created == ahead + len(plane.heartbeats) - count


def test_slots_and_a_new_key_come_with_the_configuration(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    key = plane.keys["agent1.2"] = secrets.token_bytes(32)
    secret = base64.b64encode(key).decode()
    plane.config = {"config_version": 2, "slots": 5, "key_id": "agent1.2", "workload_identity_secret": secret}
    plane.wait_for(lambda: plane.heartbeats[-1]["config_version"] == 2)
    assert plane.heartbeats[-1]["free_slots"] == 5
    del plane.keys["agent1.1"]
    assert plane.finished(plane.add_job(history.url))["exit_code"] == 0
    agent.stop()
    agent.start(token=None)
    assert plane.finished(plane.add_job(history.url))["exit_code"] == 0


def test_two_slots_run_two_jobs_at_once(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    run = f"touch {tmp_path}/$ME; while [ ! -e {tmp_path}/$OTHER ]; do sleep 0.05; done"
    jobs = [
        plane.add_job(history.url, run=run, env={"ME": "a", "OTHER": "b"}),
        plane.add_job(history.url, run=run, env={"ME": "b", "OTHER": "a"}),
    ]
    agent.start("--slots=2")
    assert [plane.finished(job)["exit_code"] for job in jobs] == [0, 0]
    assert max(len(heartbeat["running"]) for heartbeat in plane.heartbeats) <= 2


def test_the_next_job_comes_with_the_answer_to_finish(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    plane.interval = 60
    jobs = [plane.add_job(history.url) for _ in range(3)]
    agent.start()
    for job in jobs:
        assert plane.finished(job)["exit_code"] == 0


def test_heartbeats_report_the_states_of_running_steps(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, steps=[{"name": "a", "run": "true"}, {"name": "b", "run": "sleep 2"}])
    agent.start()

    def states() -> list[str]:
        return [step["state"] for entry in plane.heartbeats[-1]["running"] for step in entry["steps"]]

    plane.wait_for(lambda: plane.heartbeats and states() == ["completed", "running"], timeout=4)
    assert plane.finished(job)["exit_code"] == 0
    plane.wait_for(lambda: plane.heartbeats[-1]["running"] == [])
    assert plane.heartbeats[-1]["jobs_completed"] == 1


def test_sigterm_lets_the_job_finish_and_takes_no_other(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="echo begun; sleep 2; echo done")
    agent.start()
    plane.wait_for_output(job, "begun")
    waiting = plane.add_job(history.url)
    agent.signal(signal.SIGTERM)
    assert agent.exit_code() == 0
    assert job.finish is not None
    assert job.finish["exit_code"] == 0
    assert "done" in job.text
    assert plane.heartbeats[-1]["free_slots"] == 0
    assert not waiting.assigned


def test_sigterm_ends_an_idle_agent_at_once(agent: AgentProcess, plane: FakeControlPlane) -> None:
    agent.start()
    plane.wait_for(lambda: plane.heartbeats)
    agent.signal(signal.SIGTERM)
    assert agent.exit_code(3) == 0


def test_a_second_sigterm_stops_and_reports_the_jobs(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(
        history.url, steps=[{"name": "a", "run": "echo begun; sleep 300"}, {"name": "b", "run": "true"}]
    )
    agent.start()
    plane.wait_for_output(job, "begun")
    agent.signal(signal.SIGTERM)
    # The kernel merges two pending signals of one kind, so the agent must have handled the first.
    eventually(lambda: "the agent takes no more jobs" in agent.output)
    plane.wait_for(lambda: plane.heartbeats[-1]["free_slots"] == 0)
    agent.signal(signal.SIGTERM)
    assert agent.exit_code(30) == 0
    assert job.finish is not None
    assert job.finish["error_message"] == "The agent was stopped."
    assert [step["state"] for step in job.finish["steps"]] == ["cancelled", "skipped"]


def test_a_third_sigterm_ends_the_agent_at_once_and_leaves_no_process(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="trap '' TERM; echo begun; while true; do sleep 1; done")
    agent.start("--grace=60")
    plane.wait_for_output(job, "begun")
    for message in (
        "the agent takes no more jobs and exits when its running jobs (1) end; a second signal stops them",
        "the agent stops its running jobs; a third signal makes it exit at once",
        "the agent exits at once",
    ):
        agent.signal(signal.SIGTERM)
        eventually(partial(lambda expected: f"{expected}\n" in agent.output, message))
    assert agent.exit_code(3) == 1
    eventually(lambda: not agent.leftovers())


DAEMON = """\
python3 -c '
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        %s
    os._exit(0)
os.wait()
'
"""


def test_kill_9_ends_the_processes_of_the_job_and_a_new_start_runs_it_again(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    without_environment = 'os.execve("/bin/sh", ["sh", "-c", "echo daemon $$; sleep 300; :"], {})'
    job = plane.add_job(
        history.url, run=f"{DAEMON % without_environment}\necho begun; [ $HYBRID_CI_ATTEMPT = 2 ] || sleep 300"
    )
    agent.start()
    plane.wait_for_output(job, "begun")
    plane.wait_for_output(job, "daemon")
    daemon = int(job.text.partition("\ndaemon ")[2].split()[0])
    assert daemon in processes.process_table()
    agent.kill()
    eventually(lambda: not agent.leftovers() and daemon not in processes.process_table())
    heartbeats = len(plane.heartbeats)
    agent.start()
    # What the attempt printed is delivered first.
    plane.wait_for(lambda: len(plane.heartbeats) > heartbeats and plane.heartbeats[-1]["running"] == [])
    assert plane.heartbeats[-1]["free_slots"] == 1
    assert job.finish is None
    assert not list((agent.state / "work").glob("agent-*/*"))
    plane.requeue(job)
    assert plane.finished(job)["exit_code"] == 0
    assert job.text.startswith("── attempt 2 ")


def test_a_new_start_kills_the_processes_of_a_killed_agent_and_its_killed_guards(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run=DAEMON % 'os.execv("/bin/sleep", ["sleep", "300"])' + "echo begun; sleep 300")
    agent.start()
    plane.wait_for_output(job, "begun")
    guards = [process.pid for process in agent.leftovers() if process.parent == agent.pid]
    assert guards
    for pid in guards:
        os.kill(pid, signal.SIGSTOP)
    agent.kill()
    for pid in guards:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not {process.pid for process in agent.leftovers()}.intersection(guards))
    orphans = agent.leftovers()
    assert len(orphans) >= 2
    stranger = processes.process_table()[os.getpid()]
    agent.start()
    eventually(lambda: not set(orphans).intersection(agent.leftovers()))
    eventually(lambda: re.search(r"the agent killed \d+ processes that its previous run left behind", agent.output))
    assert stranger in processes.process_table().values()


def test_a_step_that_kills_its_guard_fails_and_leaves_no_process(
    agent: AgentProcess, plane: FakeControlPlane, history: History
) -> None:
    job = plane.add_job(history.url, run="sleep 300 & kill -9 $PPID; sleep 300")
    agent.start()
    assert plane.finished(job)["exit_code"] == 137
    eventually(lambda: not agent.leftovers())


def test_a_retired_agent_names_the_reason_and_exits(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    # A new step makes the agent send a heartbeat at once.
    steps = [
        {"name": "a", "run": f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"},
        {"name": "b", "run": "sleep 300"},
    ]
    job = plane.add_job(history.url, steps=steps)
    agent.start()
    plane.wait_for_output(job, "step 1/2")
    plane.fail("/heartbeat", 403, code="agent_retired")
    (tmp_path / "go").touch()
    assert agent.exit_code() == 3
    assert "This agent is retired (403 agent_retired: a fault on demand)." in agent.output
    assert f"remove {agent.state / 'identity.json'} and start the agent with a new enrolment token" in agent.output
    eventually(lambda: not agent.leftovers())
