"""The ends of runs of pipelines with rules are announced, and other runs cost nothing more."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.core.cache import cache

from apps.jobs.models import FIRST_NODE, Job, Run
from apps.jobs.selectors.jobs import job_get
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.selectors.runs import run_get
from apps.jobs.services import (
    JobPlace,
    announcements,
    attempt_finish,
    attempt_start,
    job_cancel,
    job_create,
    job_retry,
    jobs_claim,
    run_advance,
    run_retry,
)
from apps.jobs.services.announcements import run_announce
from apps.notifications.models import OutboxItem
from apps.notifications.selectors.outbox import shard_place
from apps.notifications.states import Occasion, Topic
from controlplane.lib.actor import Actor
from tests.conftest import OPERATOR
from tests.jobs.conftest import MakeAgent
from tests.jobs.runs import DIAMOND, Worker
from tests.jobs.test_budgets import DONE, started
from tests.metering import dynamodb_calls
from tests.notifications.conftest import deliveries, rule_made, sweep, target_made
from tests.notifications.test_outbox_work import add
from tests.properties.consistency import Items
from tests.webhooks import Receiver

EVERYTHING = tuple(Occasion)
handled: list[str] = []


def handle(item: OutboxItem) -> None:
    handled.append(str(item.key))


def heard() -> list[str]:
    """What the target of all occasions has heard, the oldest first."""
    sweep()
    return [delivery.message["headline"] for delivery in deliveries()]


@pytest.fixture
def listening(hook: Receiver) -> Receiver:
    """A target hears of all ends of runs."""
    rule_made(target_made(hook), *EVERYTHING)
    return hook


def ended(agent: Actor, job_id: str, *, exit_code: int = 0) -> None:
    """The agent runs the job to this end."""
    (assignment,) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=1)
    assert assignment.job_id == job_id
    attempt_start(agent=agent, job_id=job_id, attempt=assignment.attempt)
    place = JobPlace(str(job_get(job_id).run_id), FIRST_NODE)
    result = replace(DONE, exit_code=exit_code, place=place)
    attempt_finish(agent=agent, job_id=job_id, attempt=assignment.attempt, result=result)


def test_each_item_is_given_to_the_function_of_its_topic(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(announcements._HANDLERS, Topic.RUN, (__name__, "handle"))
    add("key", 1)
    assert announcements.outbox_work(seconds=1) == 1
    assert handled == ["key"]


def test_the_ends_of_runs_of_one_job_are_told(
    listening: Receiver, make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    failed = make_job()
    ended(agent, failed, exit_code=1)
    assert heard() == ["Failed after success"]
    # Run again, it is the same run with another end.
    again = str(job_retry(actor=OPERATOR, job_id=failed).job_id)
    ended(agent, again)
    assert heard() == ["Failed after success", "Fixed"]
    ended(agent, make_job())
    job_cancel(actor=OPERATOR, job_id=make_job())
    assert heard()[2:] == ["Succeeded", "Cancelled"]
    (request, *_) = listening.requests
    data = json.loads(request.body)["data"]
    assert (data["pipeline"], data["git_ref"], data["result"], data["requested_by"]) == (
        "self",
        "main",
        "failed",
        "operator",
    )
    assert data["failed_jobs"] == [{"name": "self", "job_id": failed, "error": ""}]


def test_the_ends_of_runs_of_graphs_are_told_with_what_failed(listening: Receiver, worker: Worker) -> None:
    run_id = worker.run(DIAMOND)
    worker.finish_named(run_id)
    worker.finish_named(run_id, lint=3)
    run_advance(run_id=run_id)
    assert heard() == ["Failed after success"]
    run_retry(actor=OPERATOR, run_id=run_id)
    worker.finish_named(run_id)
    worker.finish_named(run_id)
    assert heard() == ["Failed after success", "Fixed"]
    failed = json.loads(listening.requests[0].body)["data"]["failed_jobs"]
    assert [job["name"] for job in failed] == ["lint"]


def test_a_run_of_a_pipeline_without_rules_is_not_announced_and_costs_no_write_more(
    hook: Receiver, make_job: Callable[..., str], make_agent: MakeAgent, worker: Worker
) -> None:
    rule_made(target_made(hook), *EVERYTHING, pipelines=["another"])
    agent, job_id = make_agent(), make_job()
    with dynamodb_calls() as metering:
        run_id = str(job_create(actor=OPERATOR).run_id)
    assert metering.operations.count("TransactWriteItems") == 1
    assert metering.write_units <= 10
    assert (run_get(run_id).announced, Job.get(job_id).announced) == (None, None)
    (assignment, _) = jobs_claim(agent=agent, sets=queue_registry().sets_for(()), limit=2)
    attempt_start(agent=agent, job_id=assignment.job_id, attempt=1)
    done = replace(DONE, place=JobPlace(str(job_get(assignment.job_id).run_id), FIRST_NODE))
    with dynamodb_calls() as metering:
        attempt_finish(agent=agent, job_id=assignment.job_id, attempt=1, result=done)
    assert metering.operations == ["TransactWriteItems"]
    assert list(Items().of(OutboxItem)) == []


def test_an_announced_end_is_one_read_and_one_row_more(
    listening: Receiver, make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    cache.clear()
    agent = make_agent()
    job_id = started(make_job, agent)
    done = replace(DONE, place=JobPlace(str(job_get(job_id).run_id), FIRST_NODE))
    with dynamodb_calls() as metering:
        attempt_finish(agent=agent, job_id=job_id, attempt=1, result=done)
    # The first transaction did not know that the run is announced.
    assert metering.operations == ["TransactWriteItems", "GetItem", "TransactWriteItems"]
    assert len(list(Items().of(OutboxItem))) == 1


@pytest.mark.parametrize("exit_code", [0, 1])
def test_the_run_of_one_job_and_its_message_have_the_commit_that_the_agent_reports_with_the_end(
    listening: Receiver, make_job: Callable[..., str], make_agent: MakeAgent, exit_code: int
) -> None:
    job_id = make_job()
    ended(make_agent(), job_id, exit_code=exit_code)
    job = job_get(job_id)
    assert (run_get(str(job.run_id)).commit, job.commit) == (DONE.commit, DONE.commit)
    assert len(heard()) == 1
    assert json.loads(listening.requests[0].body)["data"]["commit"] == DONE.commit


def test_a_repeated_announcement_tells_nothing_twice_and_a_run_that_is_gone_nothing(
    listening: Receiver, make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    job_id = make_job()
    ended(make_agent(), job_id)
    (item,) = (OutboxItem.from_raw_data(row) for row in _rows())
    run_announce(item)
    run_announce(item)
    assert len(deliveries()) == 1
    item.fact = {**item.fact, "run_id": "01m0000000000000000000000a", "ended_at": "2026-11-27T09:00:00.000000Z"}
    Run("01m0000000000000000000000a", "run").delete()
    run_announce(item)
    assert len(deliveries()) == 1


def _rows() -> list[dict[str, object]]:
    return [row for number in range(4) for row in OutboxItem.stored_items(shard_place(number))]
