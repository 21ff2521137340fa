"""The design's budgets (section 7) for jobs: calls to DynamoDB and write units for each operation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest
from django.core.cache import cache

from apps.jobs.models import FIRST_NODE, Job, QueueEntry
from apps.jobs.reports.results import ReportKind
from apps.jobs.selectors import job_get, job_overview, job_tests
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.selectors.runs import run_view
from apps.jobs.services import (
    AttemptResult,
    JobPlace,
    attempt_finish,
    attempt_start,
    job_create,
    jobs_claim,
    log_append,
    report_add,
)
from apps.jobs.services.queue import entry_of
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.jobs.conftest import MakeAgent
from tests.jobs.runs import Worker, graph_pipeline, states
from tests.metering import dynamodb_calls

DONE = AttemptResult(
    exit_code=0,
    error_message=None,
    steps=[
        {
            "name": name,
            "state": "completed",
            "exit_code": 0,
            "started_at": "2026-11-21T09:00:00.000000Z",
            "completed_at": "2026-11-21T09:00:01.000000Z",
        }
        for name in ("lint", "test")
    ],
    log_chunks=1,
    commit="0" * 40,
)


def started(make_job: Callable[..., str], agent: Actor) -> str:
    job_id = make_job()
    (assignment,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    attempt_start(agent=agent, job_id=job_id, attempt=assignment.attempt)
    return job_id


def test_enqueueing_is_one_transaction_and_reads_of_the_pipeline_and_of_the_label_sets_hint(
    pipeline: str, operator_actor: Actor
) -> None:
    job_create(actor=operator_actor)
    with dynamodb_calls() as metering:
        job_create(actor=operator_actor)
    assert metering.operations == ["GetItem", "TransactWriteItems", "GetItem"]
    assert metering.write_units <= 10


def test_enqueueing_writes_the_hint_only_where_it_would_hide_the_job(pipeline: str, operator_actor: Actor) -> None:
    """One write unit more, when the job is more urgent than all that wait in its set."""
    job_create(actor=operator_actor, priority=10)
    with dynamodb_calls() as metering:
        job_create(actor=operator_actor, priority=11)
    assert metering.operations == ["GetItem", "TransactWriteItems", "GetItem", "UpdateItem"]
    assert metering.write_units <= 11


def test_finishing_is_one_transaction(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    agent = make_agent()
    job_id = started(make_job, agent)
    done = replace(DONE, place=JobPlace(job_get(job_id).run_id, FIRST_NODE))
    with dynamodb_calls() as metering:
        assert attempt_finish(agent=agent, job_id=job_id, attempt=1, result=done)
    assert metering.operations == ["TransactWriteItems"]
    assert metering.write_units <= 10


@pytest.mark.parametrize("successors", [0, 1, 5, 24])
def test_finishing_in_a_run_costs_10_units_and_8_for_each_job_that_it_releases(
    make_agent: MakeAgent, successors: int
) -> None:
    """The run has up to 50 jobs, so its state is one consistent query."""
    graph_pipeline()
    worker = Worker(make_agent())
    steps = "steps: [{run: make}]"
    after = [f"  after{number}: {{needs: build, {steps}}}\n" for number in range(successors)]
    others = [f"  other{number}: {{needs: other, {steps}}}\n" for number in range(47 - successors)]
    run_id = worker.run(f"jobs:\n  build: {{{steps}}}\n  other: {{{steps}}}\n{''.join(after + others)}")
    assert len(run_view(run_id).jobs) == 50
    build = worker.take()
    assert build.node == "build"
    with dynamodb_calls() as metering:
        worker.finish(build)
    releases = ["TransactWriteItems", "GetItem"] if successors else []
    assert metering.operations == ["TransactWriteItems", "Query", *releases]
    assert metering.consistent == 1 + len(releases[1:])
    assert metering.write_units <= 10 + 8 * successors
    assert sorted(states(run_id).values()).count("queued") == 1 + successors


def test_a_claim_makes_as_many_calls_at_2_000_waiting_jobs_as_at_100(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """The jobs behind the first ten have only their entries in the queue here: a claim looks at no more of them."""
    jobs = [Job.get(make_job()) for _ in range(10)]
    later = (Job(job_id=new_id(), labels=[], priority=50, created_at=jobs[-1].created_at) for _ in range(1_990))
    agent, calls = make_agent(), []
    sets = queue_registry().sets_for(())
    for more in (90, 1_900):
        with QueueEntry.batch_write() as batch:
            for job in islice(later, more):
                batch.save(entry_of(job, attempt=1))
        with dynamodb_calls() as metering:
            for _ in range(5):
                assert jobs_claim(agent=agent, sets=sets, limit=1)[0].job_id == jobs.pop(0).job_id
        calls.append(metering.calls)
    assert calls[1] <= calls[0] * 1.1


def test_a_log_chunk_is_one_write_of_its_size_and_a_read_a_second(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    job_id = started(make_job, agent)
    cache.clear()
    with dynamodb_calls() as metering:
        for sequence in range(5):
            log_append(agent_id=agent.id, job_id=job_id, attempt=1, sequence=sequence, data=b"x" * 10_000)
    assert metering.operations == ["GetItem", *["PutItem"] * 5]
    assert metering.write_units <= 5 * 10


def test_a_report_is_one_write_and_a_read_a_second_and_a_jobs_results_are_two_queries(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    job_id = started(make_job, agent)
    cache.clear()
    data = b'<testsuite><testcase name="a"><failure message="no"/></testcase></testsuite>'
    with dynamodb_calls() as metering:
        for number in range(5):
            report_add(
                agent_id=agent.id,
                job_id=job_id,
                attempt=1,
                number=number,
                kind=ReportKind.JUNIT,
                file="report.xml",
                commit=None,
                data=data,
            )
    assert metering.operations == ["GetItem", *["PutItem"] * 5]
    assert metering.write_units <= 5
    job = job_get(job_id)
    with dynamodb_calls() as metering:
        assert job_tests(job).totals.failed == 5
    assert metering.operations == ["Query", "Query"]


def test_the_overview_is_three_calls_however_many_jobs_there_are(make_job: Callable[..., str]) -> None:
    for _ in range(30):
        make_job()
    with dynamodb_calls() as metering:
        overview = job_overview(days=1)
    assert overview.waiting_count == 30
    assert metering.calls == 3
