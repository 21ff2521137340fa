"""The whole product: a control plane over HTTP, real git repositories, and the real agent program as a process."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from apps.agents.services import enrolment_token_create
from apps.audit.services.refusals import refusals_forget
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import ADMIN, person
from tests.emulator import items_clear
from tests.engines import path_without_engine
from tests.repositories import BareRepository, ref_stream

PROJECT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], Any], *, seconds: float = 30, every: float = 0.15) -> Any:
    """The first true result of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        # Most conditions cost requests, each of which takes ten milliseconds of processor time.
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s")


class Repository:
    """A bare git repository. Each commit to `main` keeps the files of the ones before."""

    def __init__(self, path: Path) -> None:
        self._bare = BareRepository(path)
        self.url = self._bare.url
        # The last commit.
        self.head: str | None = None

    def commit(self, **files: str) -> str:
        """Commit files (``__`` in a name means a dot); returns the commit's id."""
        entries = {name.replace("__", "."): text.encode() for name, text in files.items()}
        self.head = self._bare.commit("main", entries, on=self.head)
        return self.head

    def name(self, *refs: str) -> None:
        """Make refs, by their full names, of the last commit."""
        assert self.head is not None
        self._bare.write(*(ref_stream(ref, self.head) for ref in refs))

    def define(self, *runs: str, **extra: str) -> str:
        """Commit a pipeline whose steps run these commands."""
        steps = "".join(
            f"  - name: step {number}\n    run: |\n" + "".join(f"      {line}\n" for line in run.splitlines())
            for number, run in enumerate(runs, start=1)
        )
        head = "".join(f"{key}: {value}\n" for key, value in extra.items())
        return self.commit(**{"__hybrid-ci__yml": f"{head}steps:\n{steps}"})


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "app.git")


@dataclass
class AgentProcess:
    """The agent program."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    log: Path

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self.process.kill()
        self.process.wait(10)


@dataclass
class Product:
    """What a person has before them: the API as an operator, and agents to start."""

    client: Client
    admin: Client
    server: str
    tmp_path: Path
    agents: list[AgentProcess] = field(default_factory=list)

    def start_agent(
        self, name: str, *arguments: str, wait: bool = True, deployment_targets: Sequence[str] = ()
    ) -> AgentProcess:
        """Start an agent and wait until it is healthy."""
        until = clock.now() + timedelta(hours=1)
        _, token = enrolment_token_create(uses=1, expires_at=until, actor=ADMIN, deployment_targets=deployment_targets)
        state_dir, log = self.tmp_path / f"agent-{name}", self.tmp_path / f"agent-{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "agent", "--url", self.server, "--name", name, *arguments],
                cwd=PROJECT,
                env={
                    **os.environ,
                    "PATH": path_without_engine(),
                    "HYBRID_CI_TOKEN": token,
                    "HYBRID_CI_STATE_DIR": str(state_dir),
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        agent = AgentProcess(process, state_dir, log)
        self.agents.append(agent)
        if wait:
            wait_for(lambda: any(a["name"] == name and a["status"] == "healthy" for a in self.agent_list()))
        return agent

    def end(self) -> None:
        """End the agents."""
        for agent in self.agents:
            with contextlib.suppress(ProcessLookupError):
                # A stopped process has to go on before it can end.
                os.killpg(agent.process.pid, signal.SIGCONT)
            agent.kill()

    def agent_list(self) -> list[dict[str, Any]]:
        response = self.client.get("/agents")
        assert response.status_code == 200, response.text
        return list(response.json()["agents"])

    def pipeline(self, url: str, *, name: str = "self", definition: str | None = None) -> None:
        """Make the pipeline; without a definition, jobs use the repository's own file."""
        body = {"repository": url, "default_ref": "main", "definition": definition}
        response = self.admin.put(f"/pipelines/{name}", json=body)
        assert response.status_code in (200, 201), response.text

    def queue(self, **members: Any) -> str:
        response = self.client.post("/jobs", json=members)
        assert response.status_code == 201, response.text
        return str(response.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        response = self.client.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def until(self, job_id: str, *statuses: str, seconds: float = 40) -> dict[str, Any]:
        """Wait until the job has one of these statuses; returns it."""
        found: dict[str, Any] = wait_for(
            lambda: (job := self.job(job_id))["status"] in statuses and job, seconds=seconds
        )
        return found

    def until_ended(self, job_id: str, *, seconds: float = 40) -> dict[str, Any]:
        return self.until(job_id, "completed", "failed", "cancelled", "timed_out", seconds=seconds)

    def log(self, job_id: str) -> bytes:
        """The whole log so far, read in slices as a client would, without the commands that it shows."""
        data, offset = b"", 0
        while True:
            response = self.client.get(f"/jobs/{job_id}/log?offset={offset}")
            assert response.status_code == 200, response.text
            data += response.content
            if not response.content:
                return re.sub("^── [$>] .*\n".encode(), b"", data, flags=re.MULTILINE)
            assert int(response.headers["X-Next-Offset"]) == offset + len(response.content)
            offset = int(response.headers["X-Next-Offset"])


@pytest.fixture
def product(server: str, operator: Client, admin: Client, tmp_path: Path) -> Iterator[Product]:
    product = Product(operator, admin, server, tmp_path)
    yield product
    product.end()


@pytest.fixture(scope="module")
def shared_product(_server: str, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product for all tests of a module, none of which may empty the tables. Its agent's machine has no locale."""
    product = Product(
        person(_server, "operator"), person(_server, "admin"), _server, tmp_path_factory.mktemp("product")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C")
        product.start_agent("one", "--slots", "3")
    yield product
    product.end()
    cache.clear()
    refusals_forget()
    items_clear(emulator)
