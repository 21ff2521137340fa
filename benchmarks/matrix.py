"""What runs cost on the emulator: a matrix from the file to all queued, a finish, and a claim. `make benchmark-matrix`.

The first table is the report of the pipeline file by the first job of a run: seconds, calls to DynamoDB and write units
until all jobs of the matrix wait for agents. The second one is the end of a job that lets so many others start, and the
third the claims of five agents in turn from queues of growing length, whose times are the emulator's alone. Tables and
indexes are counted apart, as in `units`: the design's budgets are of tables.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.units import counted

MATRICES = (10, 100, 1_000)
SUCCESSORS = (0, 1, 5, 24)
DEPTHS = (100, 10_000, 100_000)

# The budgets: units of tables, and how many more calls a claim may make in the longest queue.
FINISH_UNITS, SUCCESSOR_UNITS = 10, 8
MORE_CALLS = 1.1

_CLAIMS = 20
_AGENTS = 5
_STEPS = "steps: [{run: make}]"


@dataclass
class Cost:
    """What an act has cost. Units are write units."""

    seconds: float
    operations: list[str]
    table_units: float
    index_units: float


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, _control_plane(Path(folder)) as empty:
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
        print("matrix   seconds   calls   units   units of indexes   units a job")
        for jobs in MATRICES:
            empty()
            cost = _matrix(jobs)
            units = cost.table_units, cost.index_units, cost.table_units / jobs
            print(f"{jobs:6}   {cost.seconds:7.2f}   {len(cost.operations):5}   {_figures(*units)}", flush=True)
        print("\nsuccessors   units   units of indexes   budget   queries")
        for successors in SUCCESSORS:
            empty()
            cost = _finish(successors)
            budget = FINISH_UNITS + SUCCESSOR_UNITS * successors
            queries = cost.operations.count("Query")
            print(f"{successors:10}   {cost.table_units:5.0f}   {cost.index_units:16.0f}   {budget:6}   {queries:7}")
        print("\nwaiting jobs   calls a claim   ms a claim")
        calls = []
        for depth in DEPTHS:
            empty()
            cost = _claims(depth)
            calls.append(len(cost.operations) / _CLAIMS)
            print(f"{depth:12}   {calls[-1]:13.2f}   {cost.seconds / _CLAIMS * 1000:10.1f}", flush=True)
        print(f"the longest to the shortest queue: {calls[-1] / calls[0]:.2f} (goal: ≤ {MORE_CALLS})")


def _figures(table: float, indexes: float, each: float) -> str:
    return f"{table:5.0f}   {indexes:16.0f}   {each:11.1f}"


@contextmanager
def _control_plane(folder: Path) -> Iterator[Callable[[], None]]:
    """Django on an emulator with all tables. It yields what empties them."""
    from benchmarks.lambda_comparison import environment_set
    from tests.emulator import items_clear, running_emulator

    with running_emulator() as url:
        environment_set(folder)
        os.environ["AWS_ENDPOINT_URL"] = url
        import django

        django.setup()
        from django.core.cache import cache

        from controlplane.nosql import connection
        from controlplane.nosql.tables import create_tables

        # The emulator looks through a whole partition for each query, which DynamoDB does not.
        connection.READ_TIMEOUT_SECONDS = 60
        list(create_tables())

        def empty() -> None:
            items_clear(url)
            cache.clear()

        yield empty


def _worker() -> Any:
    """An agent that runs jobs by the services, and the pipeline "graph"."""
    from tests.jobs.runs import Worker, graph_pipeline

    graph_pipeline()
    return Worker(_agent())


def _agent() -> Any:
    from apps.agents.models import Heartbeat
    from controlplane.lib import clock
    from controlplane.lib.actor import Actor
    from controlplane.lib.ids import new_id

    heartbeat = Heartbeat(new_id(), at=clock.timestamp(clock.now()), status="healthy")
    heartbeat.save()
    return Actor("agent", str(heartbeat.agent_id), "build")


def _measured(act: Callable[[], Any]) -> Cost:
    from tests.metering import dynamodb_calls

    # The second one asks for the units of indexes, too.
    with dynamodb_calls() as metering, counted() as units:
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
    indexes = sum(written for name, (_, written) in units.items() if "/" in name)
    tables = sum(written for name, (_, written) in units.items() if "/" not in name)
    return Cost(seconds, metering.operations, tables, indexes)


def _matrix(jobs: int) -> Cost:
    """The cost of a report of a file with a matrix of so many jobs, to the answer."""
    from apps.jobs.selectors.runs import run_view
    from apps.jobs.services import job_create
    from tests.conftest import OPERATOR

    worker = _worker()
    job_create(actor=OPERATOR, pipeline="graph")
    first = worker.take()
    axes = f"{{ten: {[*range(10)]}, others: {[*range(jobs // 10)]}}}"
    text = f"jobs: {{test: {{matrix: {{axes: {axes}}}, {_STEPS}}}}}"
    cost = _measured(lambda: worker.report(first, text))
    states = [state for name, state in run_view(first.run_id).states.items() if name != "pipeline"]
    if states != ["queued"] * jobs:
        raise SystemExit(f"not all of {jobs} jobs are queued")
    return cost


def _finish(successors: int) -> Cost:
    """The cost of the end of a job that lets so many others start, in a run of 50 jobs."""
    worker = _worker()
    after = [f"  after{number}: {{needs: build, {_STEPS}}}\n" for number in range(successors)]
    others = [f"  other{number}: {{needs: other, {_STEPS}}}\n" for number in range(47 - successors)]
    worker.run(f"jobs:\n  build: {{{_STEPS}}}\n  other: {{{_STEPS}}}\n{''.join(after + others)}")
    build = worker.take()
    return _measured(lambda: worker.finish(build))


def _claims(depth: int) -> Cost:
    """The cost of some claims when so many jobs wait at their beginning.

    Those behind the first ones have only their entries in the queue, as these jobs are not reached.
    """
    from apps.jobs.models import QueueEntry
    from apps.jobs.selectors.queue import queue_registry
    from apps.jobs.services import job_create, jobs_claim
    from apps.jobs.services.queue import entry_of
    from controlplane.lib.ids import new_id
    from tests.conftest import OPERATOR
    from tests.emulator import items_read, items_replace

    _worker()
    for _ in range(2 * _CLAIMS):
        last = job_create(actor=OPERATOR, pipeline="graph")
    url = os.environ["AWS_ENDPOINT_URL"]
    items = json.loads(items_read(url))
    queue = items[QueueEntry.Meta.table_name]
    for _ in range(depth - 2 * _CLAIMS):
        last.job_id = new_id()
        entry = entry_of(last, attempt=1)
        queue[entry.set_id][entry.position] = entry.serialize()
    items_replace(url, json.dumps(items).encode())
    sets = queue_registry().sets_for(())
    agents = cycle([_agent() for _ in range(_AGENTS)])

    def claim() -> None:
        for agent in islice(agents, _CLAIMS):
            if len(jobs_claim(agent=agent, sets=sets, limit=1)) != 1:
                raise SystemExit("a claim got no job")

    return _measured(claim)


if __name__ == "__main__":
    main()
