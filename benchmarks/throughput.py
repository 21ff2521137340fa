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
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.product import Product, repository_make, running_product, wait_until

# The goals of the product.
JOBS_A_SECOND = 10
CONTROL_PLANE_SECONDS = 0.05
AGENT_SECONDS = 0.10

_PIPELINE = "throughput"
_DEFINITION = "steps:\n  - run: 'true'\n"
# Of all jobs together. An agent that is stuck must not stop the measurement for ever.
_LIMIT_SECONDS = 900.0
_OPEN = ("queued", "assigned", "running")
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
    with tempfile.TemporaryDirectory() as folder, running_product(checkout, Path(folder) / "state", agents) as product:
        product.pipeline_save(_PIPELINE, repository_make(Path(folder) / "repository"), _DEFINITION)
        _run_jobs(product, agents * 2, ended=0)
        before, began = _cpu(product), time.monotonic()
        _run_jobs(product, jobs, ended=agents * 2)
        seconds = time.monotonic() - began
        after = _cpu(product)
        return seconds, {group: after[group] - before[group] for group in after}


def _run_jobs(product: Product, count: int, *, ended: int) -> None:
    """Queue jobs and wait until they have ended, as `ended` others have before.

    It asks agents' logs: questions to the control plane would count.
    """
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(product.request, "POST", f"/jobs?pipeline={_PIPELINE}") for _ in range(count)]
        for one in made:
            one.result()
    wait_until(lambda: _jobs_in_logs(product) >= ended + count, _LIMIT_SECONDS)
    wait_until(lambda: all(product.request("GET", f"/jobs?status={s}")["total"] == 0 for s in _OPEN), 60)
    failed = product.request("GET", "/jobs?status=failed")["total"]
    if failed:
        raise SystemExit(f"{failed} jobs failed")


def _jobs_in_logs(product: Product) -> int:
    logs = (product.state / "log").glob("agent-*.log")
    return sum(path.read_text(errors="replace").count(" ended: ") for path in logs)


def _cpu(product: Product) -> dict[str, float]:
    """Seconds of CPU by group, with those of processes that have ended."""
    used = dict.fromkeys(_GROUPS.values(), 0.0)
    table = _processes()
    for pid, (parent, _) in table.items():
        if parent == product.process.pid:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            group = next((group for word, group in _GROUPS.items() if word in command), None)
            if group is not None:
                used[group] += sum(table[one][1] for one in _family(pid, table))
    return used


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


if __name__ == "__main__":
    main()
