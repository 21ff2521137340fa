"""Two acts on one run at once, in each order: nothing is done twice, and nothing is forgotten."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from django.core.cache import cache

from apps.audit.models import AuditRecord
from apps.jobs.label_sets import position_job_id
from apps.jobs.models import Job
from apps.jobs.selectors.groups import group_front
from apps.jobs.selectors.queue import queue_head, queue_registry
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import job_cancel, job_create, run_cancel
from tests.conftest import OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import Order, every_order
from tests.jobs.conftest import MakeAgent
from tests.jobs.runs import Worker, graph_pipeline, states, status
from tests.properties.consistency import Everything

STEPS = "steps: [{run: make}]"
GRAPH = f"""
jobs:
  lint: {{{STEPS}}}
  test: {{{STEPS}}}
  ship: {{needs: [lint, test], {STEPS}}}
  deploy: {{needs: [lint, test], concurrency: {{group: prod}}, {STEPS}}}
  alarm: {{needs: [{{job: lint, result: failure}}, test], {STEPS}}}
"""


@pytest.fixture
def worker(make_agent: MakeAgent) -> Worker:
    graph_pipeline()
    return Worker(make_agent())


def orders(emulator: str) -> Iterator[Order]:
    """Each order of two acts, each with the records as they are now. All records agree after each."""
    prepared = items_read(emulator)
    for order in every_order():
        items_replace(emulator, prepared)
        cache.clear()
        yield order
        assert Everything.read().inconsistencies() == []


def waiting_for_agents(run_id: str) -> list[str]:
    """The names of the queued jobs: all others have ended."""
    names = {node.job_id: name for name, node in run_view(run_id).nodes.items()}
    return sorted(names[position_job_id(entry.position)] for entry in queue_head(queue_registry().sets[0].position))


def test_two_advances_at_once_queue_and_skip_each_job_once(worker: Worker, emulator: str) -> None:
    """Two jobs end at the same moment, and each end advances the run."""
    run_id = worker.run(GRAPH)
    lint, test = worker.take_all()
    for order in orders(emulator):
        order.race(partial(worker.finish, lint), partial(worker.finish, test))
        assert waiting_for_agents(run_id) == ["deploy", "ship"]
        assert states(run_id)["alarm"] == "skipped"
        assert group_front("graph/prod").taken == 1
    worker.finish_named(run_id)
    assert (status(run_id), group_front("graph/prod").taken) == ("completed", 0)


def test_a_run_that_is_cancelled_while_it_is_advanced_is_cancelled_once(worker: Worker, emulator: str) -> None:
    """An end gives a job the slot that it waits for, and another job runs on until its agent has cancelled it."""
    deploy = f"needs: lint, concurrency: {{group: prod}}, {STEPS}"
    run_id = worker.run(f"jobs: {{lint: {{{STEPS}}}, test: {{{STEPS}}}, deploy: {{{deploy}}}}}")
    lint, test = worker.take_all()
    for order in orders(emulator):
        order.race(partial(worker.finish, lint), partial(run_cancel, actor=OPERATOR, run_id=run_id))
        assert waiting_for_agents(run_id) == []
        assert states(run_id) == {"lint": "completed", "test": "queued", "deploy": "cancelled"}
        assert Job.get(test.job_id).cancel_requested
        worker.finish(test, exit_code=1)
        assert (states(run_id)["test"], status(run_id)) == ("cancelled", "cancelled")
        assert group_front("graph/prod").taken == 0
        assert [event.action for event in AuditRecord.scan()].count("run.cancelled") == 1


@pytest.mark.parametrize("cancels", ["the run", "its first job"])
def test_a_run_that_is_cancelled_while_its_first_job_reads_the_file_is_cancelled(
    worker: Worker, emulator: str, cancels: str
) -> None:
    """The graph comes before, in the midst of, or after the request to cancel what is one job until then."""
    run_id = str(job_create(actor=OPERATOR, pipeline="graph").run_id)
    first = worker.take()
    cancel: Callable[[], object] = partial(run_cancel, actor=OPERATOR, run_id=run_id)
    if cancels == "its first job":
        cancel = partial(job_cancel, actor=OPERATOR, job_id=str(first.job_id))
    for order in orders(emulator):
        order.race(partial(worker.report, first, GRAPH), cancel)
        read = run_view(run_id)
        if cancels == "its first job" and not read.run.cancel_requested:
            # The request came after the graph, when the job was one of many.
            assert Job.get(first.job_id).cancel_requested
            continue
        assert waiting_for_agents(run_id) == []
        worker.finish(Job.get(first.job_id), exit_code=1)
        assert status(run_id) == "cancelled"
        assert set(states(run_id).values()) <= {"cancelled", "skipped"}
