"""The design's budgets (section 7) for jobs: calls to DynamoDB and write units for each operation."""

from collections.abc import Callable

from django.core.cache import cache

from apps.jobs.selectors import job_overview
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import AttemptResult, attempt_finish, attempt_start, job_create, jobs_claim, log_append
from controlplane.lib.actor import Actor
from tests.jobs.conftest import MakeAgent
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
    with dynamodb_calls() as metering:
        assert attempt_finish(agent=agent, job_id=job_id, attempt=1, result=DONE)
    assert metering.operations == ["TransactWriteItems"]
    assert metering.write_units <= 10


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


def test_the_overview_is_three_calls_however_many_jobs_there_are(make_job: Callable[..., str]) -> None:
    for _ in range(30):
        make_job()
    with dynamodb_calls() as metering:
        overview = job_overview(days=1)
    assert overview.waiting_count == 30
    assert metering.calls == 3
