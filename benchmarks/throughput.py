"""How many jobs a second the product runs on this machine, and what CPU each costs. `make throughput` prints it.

It starts `manage.py local` of a checkout (any version that has the command) with 2 and with 10 agents, two jobs at once
each, lets them run one job each, and then queues 300 jobs whose only step is `true`. From then until the last job has
ended it measures time, and CPU by process: the web server with its sweep, the emulator, and the agents with all that
they started, steps included. Compare two versions in the same hour, on a machine that does nothing else:

    git worktree add --detach /tmp/before 3bb311b
    make throughput THROUGHPUT='--checkout /tmp/before'
    make throughput
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The goals of the product.
JOBS_A_SECOND = 10
CONTROL_PLANE_SECONDS = 0.05
AGENT_SECONDS = 0.10

_PIPELINE = "throughput"
_DEFINITION = "steps:\n  - run: 'true'\n"
_START_SECONDS = 120.0
# Of all jobs together. An agent that is stuck must not stop the measurement for ever.
_LIMIT_SECONDS = 900.0
_GROUPS = {"gunicorn": "control plane", "sweep": "control plane", "local.emulator": "emulator", "-m agent": "agents"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1], help="default: this one")
    parser.add_argument("--agents", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--jobs", type=int, default=300)
    options = parser.parse_args()
    print(f"{options.jobs} jobs with the step `true`; load of the machine before: {os.getloadavg()[0]:.1f}")
    print("agents   jobs/s   control plane s/job   agents s/job   emulator s/job")
    for agents in options.agents:
        seconds, cpu = _measure(options.checkout.resolve(), agents=agents, jobs=options.jobs)
        print(
            f"{agents:6}   {options.jobs / seconds:6.1f}   {cpu['control plane'] / options.jobs:19.3f}"
            f"   {cpu['agents'] / options.jobs:12.3f}   {cpu['emulator'] / options.jobs:14.3f}",
            flush=True,
        )
    print(f"goals    ≥ {JOBS_A_SECOND:4}   {f'≤ {CONTROL_PLANE_SECONDS}':>19}   {f'≤ {AGENT_SECONDS}':>12}")


def _measure(checkout: Path, *, agents: int, jobs: int) -> tuple[float, dict[str, float]]:
    """The seconds until all jobs have ended, and the seconds of CPU by group of processes."""
    with tempfile.TemporaryDirectory() as folder, _product(checkout, Path(folder) / "state", agents) as product:
        repository = _repository(Path(folder) / "repository")
        product.request(
            "PUT",
            f"/pipelines/{_PIPELINE}",
            {"repository": f"file://{repository}", "default_ref": "main", "definition": _DEFINITION},
        )
        product.run_jobs(agents * 2)
        before, began = product.cpu(), time.monotonic()
        product.run_jobs(jobs)
        seconds = time.monotonic() - began
        after = product.cpu()
        return seconds, {group: after[group] - before[group] for group in after}


class _Product:
    """A running `manage.py local`."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        self._process = process
        self._state = state
        self._token = ""
        self._url = ""
        self._ended = 0

    def wait_until_ready(self, agents: int) -> None:
        """Wait until all agents have enrolled."""

        def ready() -> bool:
            if self._process.poll() is not None:
                raise SystemExit(f"manage.py local ended with exit code {self._process.returncode}")
            return len(list(self._state.glob("agents/*/identity.json"))) == agents

        _wait_until(ready, _START_SECONDS)
        credentials = json.loads((self._state / "credentials.json").read_text())
        self._token, self._url = credentials["api_token"], credentials["url"]

    def run_jobs(self, count: int) -> None:
        """Queue jobs and wait until they have ended. Asks agents' logs: questions to the control plane would count."""
        self._ended += count
        with ThreadPoolExecutor(4) as pool:
            made = [pool.submit(self.request, "POST", f"/jobs?pipeline={_PIPELINE}", None) for _ in range(count)]
            for one in made:
                one.result()
        _wait_until(lambda: self._jobs_in_logs() >= self._ended, _LIMIT_SECONDS)
        _wait_until(lambda: all(self.request("GET", f"/jobs?status={s}", None)["total"] == 0 for s in _OPEN), 60)
        failed = self.request("GET", "/jobs?status=failed", None)["total"]
        if failed:
            raise SystemExit(f"{failed} jobs failed")

    def request(self, method: str, path: str, body: Any) -> Any:
        """Send a request as the local admin. Returns the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU by group, with those of processes that have ended."""
        used = dict.fromkeys(_GROUPS.values(), 0.0)
        table = _processes()
        for pid, (parent, _) in table.items():
            if parent == self._process.pid:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                group = next((group for word, group in _GROUPS.items() if word in command), None)
                if group is not None:
                    used[group] += sum(table[one][1] for one in _family(pid, table))
        return used

    def _jobs_in_logs(self) -> int:
        return sum(
            path.read_text(errors="replace").count(" ended: ") for path in (self._state / "log").glob("agent-*.log")
        )


_OPEN = ("queued", "assigned", "running")


@contextmanager
def _product(checkout: Path, state: Path, agents: int) -> Iterator[_Product]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "local", "--port", "0", "--agents", str(agents), "--state-dir", str(state)],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        product = _Product(process, state)
        product.wait_until_ready(agents)
        yield product
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _repository(folder: Path) -> Path:
    folder.mkdir()
    (folder / "file").write_text("content\n")
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "file"],
        ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org", "commit", "--quiet", "--message=one"],
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def _processes() -> dict[int, tuple[int, float]]:
    """Parent and seconds of CPU of each process by its number."""
    ticks = os.sysconf("SC_CLK_TCK")
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        table[int(path.parent.name)] = (int(fields[1]), sum(int(field) for field in fields[11:15]) / ticks)
    return table


def _family(root: int, table: dict[int, tuple[int, float]]) -> list[int]:
    children = [pid for pid, (parent, _) in table.items() if parent == root]
    return [root, *(one for child in children for one in _family(child, table))]


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen within {seconds:.0f} s")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
