"""From logging in to the end of a followed run: the way that most users go."""

import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import hci
from tests.clients import Client
from tests.signing import AgentClient


def test_a_user_logs_in_starts_a_run_and_follows_it_to_its_end(
    server: str, operator: Client, agent: AgentClient, pipeline: str, settings_folder: Path
) -> None:
    assert hci("login", "--server", server, "--token-stdin", stdin=f"{operator.token}\n").code == 0
    assert stat.S_IMODE((settings_folder / "tokens.json").stat().st_mode) == 0o600

    def work() -> None:
        while not operator.get("/jobs").json()["jobs"]:
            time.sleep(0.05)
        assignment = agent.take()
        agent.log(assignment, 0, b"make lint\n\x1b[32mgood\x1b[0m\n")
        agent.log(assignment, 1, b"make test\n")
        agent.finish(assignment, log_chunks=2)

    thread = threading.Thread(target=work)
    thread.start()
    ended = hci("run", pipeline, "--follow")
    thread.join()
    assert (ended.code, ended.out) == (0, "make lint\ngood\nmake test\n")
    assert "completed" in ended.err

    (run,) = hci("runs", "--json").json["runs"]
    assert run["run_id"] in ended.err
    assert run["run_id"] in hci("runs", terminal=True).out


def test_a_followed_log_ends_with_the_exit_code_of_its_job(
    user: Client, agent: AgentClient, make_job: Callable[..., str]
) -> None:
    job = make_job()
    assignment = agent.take()
    agent.log(assignment, 0, b"one\ntwo\n")
    assert hci("logs", job).out == "one\ntwo\n"
    agent.finish(assignment, log_chunks=1, exit_code=7)
    ended = hci("logs", "--follow", job)
    assert (ended.code, ended.out) == (7, "one\ntwo\n")
    assert "exit code 7" in ended.err
