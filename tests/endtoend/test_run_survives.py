"""A run of many jobs on many agents, some of which are killed while they run its jobs."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import Heartbeat
from apps.jobs.services import leases_expire, runs_advance
from controlplane.lib import clock
from tests.endtoend.conftest import AgentProcess, Product, Repository, wait_for
from tests.polling import polled
from tests.properties.consistency import Everything


@dataclass(frozen=True)
class Line:
    """What a job's step noted: that the attempt began or ended, and in which folder."""

    word: str
    job: str
    attempt: int
    folder: str


class Ledger:
    """A file to which each step of each attempt appends a line when it begins, and one when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def lines(self) -> list[Line]:
        words = (line.split(" ", 3) for line in self._path.read_text().splitlines())
        return [Line(word, job, int(attempt), folder) for word, job, attempt, folder in words]

    def ended(self) -> int:
        return len({line.job for line in self.lines() if line.word == "end"})

    def open(self) -> list[Line]:
        """The attempts that have begun and not ended, the newest first."""
        lines = self.lines()
        ends = {(line.job, line.attempt) for line in lines if line.word == "end"}
        return [line for line in reversed(lines) if line.word == "begin" and (line.job, line.attempt) not in ends]

    def step(self, job: str) -> str:
        note = f'echo "{{}} {job} $HYBRID_CI_ATTEMPT $PWD" >> {self._path}'
        return f"{note.format('begin')}; sleep 0.5; {note.format('end')}"


def diamonds(chains: int, length: int) -> Iterator[tuple[str, list[str]]]:
    """Chains of diamonds of four jobs each: every job with those that it needs."""
    for chain in range(chains):
        last: list[str] = []
        for number in range(length):
            top, left, right, bottom = (f"c{chain}-{number}-{part}" for part in ("top", "left", "right", "bottom"))
            yield from ((top, last), (left, [top]), (right, [top]), (bottom, [left, right]))
            last = [bottom]


def kill_one(agents: list[AgentProcess], ledger: Ledger) -> AgentProcess:
    """Kill an agent that runs a job, so that it has not reported the end of that job."""

    def killed() -> AgentProcess | None:
        for line in ledger.open():
            agent = next((one for one in agents if Path(line.folder).is_relative_to(one.state_dir)), None)
            if agent is None:
                continue
            os.kill(agent.process.pid, signal.SIGSTOP)
            if line in ledger.open():
                agent.kill()
                return agent
            os.kill(agent.process.pid, signal.SIGCONT)
        return None

    agent: AgentProcess = wait_for(killed)
    return agent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chains", "length", "agents", "killed"),
    [(3, 1, 3, 1), pytest.param(10, 5, 10, 3, marks=pytest.mark.nightly)],
)
def test_a_run_in_diamonds_whose_agents_are_killed_runs_each_job_once_an_attempt_and_completes(
    product: Product, repository: Repository, chains: int, length: int, agents: int, killed: int
) -> None:
    ledger = Ledger(product.tmp_path / "ledger")
    graph = dict(diamonds(chains, length))
    jobs = (
        f"  {name}:\n    needs: [{', '.join(needs)}]\n    steps:\n      - run: '{ledger.step(name)}'\n"
        for name, needs in graph.items()
    )
    repository.commit(**{"__hybrid-ci__yml": "jobs:\n" + "".join(jobs)})
    product.pipeline(repository.url)
    alive = [product.start_agent(f"agent-{number}", wait=False) for number in range(agents)]
    wait_for(lambda: sum(agent["status"] == "healthy" for agent in product.agent_list()) == agents)
    run_id = product.client.post("/runs", json={"git_ref": "main"}).json()["run_id"]

    for number in range(killed):
        wait_for(lambda: ledger.ended() > number * len(graph) // (2 * killed), seconds=120)  # noqa: B023 — used at once
        alive.remove(kill_one(alive, ledger))
    lost = {line.job for line in ledger.open() if not _is_of(line, alive)}
    assert len(lost) >= 1

    with polled(50):
        since = clock.timestamp(clock.now())
        wait_for(lambda: sum(str(one.at) > since for one in Heartbeat.scan()) == len(alive))
        # The agents' polls do the same.
        leases_expire()
        wait_for(lambda: _status(product, run_id) != "running", seconds=240)
        assert _status(product, run_id) == "completed"
        runs_advance(seconds=10)
    _ran_as_it_should(graph, ledger.lines(), product.client.get(f"/runs/{run_id}").json()["jobs"], lost)
    assert Everything.read().inconsistencies() == []


def _is_of(line: Line, agents: list[AgentProcess]) -> bool:
    return any(Path(line.folder).is_relative_to(agent.state_dir) for agent in agents)


def _status(product: Product, run_id: str) -> str:
    # The agents' jobs need the processor more than this question.
    time.sleep(0.3)
    return str(product.client.get(f"/runs/{run_id}").json()["status"])


def _ran_as_it_should(
    graph: dict[str, list[str]], lines: list[Line], jobs: list[dict[str, Any]], lost: set[str]
) -> None:
    begins = Counter((line.job, line.attempt) for line in lines if line.word == "begin")
    assert set(begins.values()) == {1}, "an attempt ran twice"
    attempts = {job["name"]: job for job in jobs if job["name"] in graph}
    assert attempts.keys() == graph.keys()
    assert {job["status"] for job in attempts.values()} == {"completed"}
    places = {(line.word, line.job, line.attempt): place for place, line in enumerate(lines)}
    last = {job: max(attempt for name, attempt in begins if name == job) for job in graph}
    assert {job for job, attempt in last.items() if attempt > 1} >= lost
    for job, needs in graph.items():
        assert ("end", job, last[job]) in places
        for need in needs:
            assert places["end", need, last[need]] < places["begin", job, 1], (
                "a job began before what it needs had ended"
            )
