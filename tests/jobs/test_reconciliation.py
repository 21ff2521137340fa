"""The queue heals: entries and jobs that contradict each other, and jobs that nothing can claim, delay no other."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.core.cache import cache
from django.core.management import call_command

from apps.agents.models import Heartbeat
from apps.agents.selectors import heartbeats_get
from apps.agents.services import lease_restore
from apps.jobs.label_sets import set_id
from apps.jobs.models import SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services import (
    AttemptResult,
    attempt_expire,
    attempt_finish,
    attempt_release,
    attempt_start,
    job_cancel,
    job_create,
    jobs_claim,
    queue_reconcile,
)
from apps.jobs.services.new_jobs import MAX_NEW_JOB_BYTES
from apps.jobs.services.queue import entry_of
from apps.jobs.services.reconciliation import entry_heal
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.clients import Client
from tests.conftest import ADMIN
from tests.interleaving import before_call, every_order
from tests.jobs.conftest import MakeAgent
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything
from tests.signing import AgentClient


def claim(agent: Actor) -> list[tuple[str, int]]:
    cache.clear()
    sets = queue_registry().sets_for(())
    return [(claimed.job_id, claimed.attempt) for claimed in jobs_claim(agent=agent, sets=sets, limit=1)]


def entry(job_id: str, attempt: int = 1) -> QueueEntry:
    return entry_of(Job.get(job_id), attempt=attempt)


def inconsistencies() -> list[str]:
    return Everything.read().inconsistencies()


# --- a claim and a cancellation heal what they meet -----------------------------------------------------------------


def left_over_by_a_cancelled_job(make_job: Callable[..., str], agent: Actor) -> None:
    job_id = make_job()
    job_cancel(actor=ADMIN, job_id=job_id)
    entry(job_id).save()


def left_over_by_a_running_attempt(make_job: Callable[..., str], agent: Actor) -> None:
    job_id = make_job()
    assert claim(agent) == [(job_id, 1)]
    entry(job_id).save()


def left_over_by_a_job_that_is_gone(make_job: Callable[..., str], agent: Actor) -> None:
    job = Job.get(make_job())
    job_cancel(actor=ADMIN, job_id=job.job_id)
    job.job_id = new_id()
    entry_of(job, attempt=1).save()


LEFT_OVER = [left_over_by_a_cancelled_job, left_over_by_a_running_attempt, left_over_by_a_job_that_is_gone]


@pytest.mark.parametrize("leave", LEFT_OVER)
def test_a_claim_deletes_an_entry_whose_job_says_otherwise(
    make_job: Callable[..., str], make_agent: MakeAgent, leave: Callable[[Callable[..., str], Actor], None]
) -> None:
    agent = make_agent()
    leave(make_job, agent)
    waiting = make_job()
    claimed = [claim(agent) for _ in range(3)]
    assert [(waiting, 1)] in claimed
    assert claimed[-1] == []
    assert inconsistencies() == []


def test_a_claim_replaces_an_entry_of_another_attempt(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    """As after a restore: the queue's table is from a later moment than that of the jobs."""
    job_id = make_job()
    entry(job_id, attempt=3).save()
    agent = make_agent()
    assert [claim(agent), claim(agent)] == [[], [(job_id, 1)]]
    assert inconsistencies() == []


def test_an_entry_that_is_left_over_does_not_keep_its_job_from_being_queued_again(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    job_id, agent = make_job(), make_agent()
    claim(agent)
    entry(job_id).save()
    assert attempt_release(agent_id=agent.id, job_id=job_id, attempt=1)
    assert claim(make_agent()) == [(job_id, 2)]


@pytest.mark.parametrize("lose", [attempt_release, attempt_expire])
def test_a_lease_that_its_job_contradicts_is_removed(
    make_job: Callable[..., str], make_agent: MakeAgent, lose: Callable[..., bool]
) -> None:
    """As after a restore: the heartbeats' table is from an earlier moment than that of the jobs."""
    job_id, agent = make_job(), make_agent()
    job_cancel(actor=ADMIN, job_id=job_id)
    restored = Transaction()
    lease_restore(restored, agent_id=agent.id, job_id=job_id, attempt=1, at=clock.timestamp(clock.now()))
    restored.commit()
    expiry = {"heartbeat_at": None, "reason": "test"} if lose is attempt_expire else {}
    assert not lose(agent_id=agent.id, job_id=job_id, attempt=1, **expiry)
    assert inconsistencies() == []
    assert heartbeats_get([agent.id])[agent.id].leases == {}


def test_a_job_whose_entry_is_missing_is_cancelled(make_job: Callable[..., str]) -> None:
    job_id = make_job()
    entry(job_id).delete()
    assert job_cancel(actor=ADMIN, job_id=job_id).status == "cancelled"
    assert inconsistencies() == []


def test_a_job_with_an_entry_of_another_attempt_is_cancelled_with_it(make_job: Callable[..., str]) -> None:
    job_id = make_job()
    entry(job_id, attempt=5).save()
    assert job_cancel(actor=ADMIN, job_id=job_id).status == "cancelled"
    assert inconsistencies() == []


# --- the sweep ------------------------------------------------------------------------------------------------------


def test_the_sweep_gives_a_queued_job_without_an_entry_one(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    job_id, agent = make_job(), make_agent()
    entry(job_id).delete()
    assert claim(agent) == []
    call_command("sweep")
    assert inconsistencies() == []
    assert claim(agent) == [(job_id, 1)]


@pytest.mark.parametrize("leave", LEFT_OVER)
def test_the_sweep_deletes_an_entry_whose_job_says_otherwise(
    make_job: Callable[..., str], make_agent: MakeAgent, leave: Callable[[Callable[..., str], Actor], None]
) -> None:
    agent = make_agent()
    leave(make_job, agent)
    waiting = make_job()
    assert queue_reconcile(seconds=5) == 1
    assert [found.position for found in Everything.read().entries] == [entry(waiting).position]


def test_the_sweep_moves_an_entry_in_a_set_of_other_labels(make_job: Callable[..., str]) -> None:
    job_id, _ = make_job(labels=["gpu"]), make_job()
    moved = entry(job_id)
    moved.delete()
    moved.set_id = set_id([])
    moved.save()
    assert queue_reconcile(seconds=5) == 2
    assert inconsistencies() == []


def test_the_sweep_adds_a_label_set_that_the_registry_has_lost(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    job_id = make_job()
    QueueSet(SETS, set_id([])).delete()
    queue_reconcile(seconds=5)
    assert inconsistencies() == []
    assert claim(make_agent()) == [(job_id, 1)]


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("is_started", [False, True])
def test_the_sweep_gives_a_job_that_an_agent_has_its_lease_back(
    make_job: Callable[..., str], make_agent: MakeAgent, is_started: bool, is_cancelled: bool
) -> None:
    """Without it the job would run for ever: its lease would never expire, and no user could cancel it."""
    job_id, agent = make_job(), make_agent()
    claim(agent)
    if is_started:
        attempt_start(agent=agent, job_id=job_id, attempt=1)
    if is_cancelled and is_started:
        job_cancel(actor=ADMIN, job_id=job_id)
    Heartbeat(agent.id).update(actions=[Heartbeat.lease_map[job_id].remove()])
    assert len(inconsistencies()) == 1
    assert queue_reconcile(seconds=5) == 1
    assert inconsistencies() == []
    assert queue_reconcile(seconds=5) == 0


def test_of_two_sweeps_at_once_one_deletes_an_entry_that_is_left_over(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    outcomes = set()
    for order in every_order():
        job_id = make_job()
        stale = entry(job_id)
        job_cancel(actor=ADMIN, job_id=job_id)
        stale.save()
        outcomes.add(order.race(partial(entry_heal, stale), partial(entry_heal, entry(job_id))))
        assert inconsistencies() == []
    assert outcomes == {(True, False), (False, True)}


def test_an_entry_is_not_deleted_when_its_job_is_queued_again_meanwhile(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent, job_id = make_agent(), make_job()
    assert claim(agent) == [(job_id, 1)]
    attempt_start(agent=agent, job_id=job_id, attempt=1)
    stale = entry(job_id)
    stale.save()

    def lose() -> None:
        attempt_expire(agent_id=agent.id, job_id=job_id, attempt=1, heartbeat_at=None, reason="lost")

    # After the entry's job has been read.
    with before_call(lose, call=1):
        entry_heal(stale)
    assert inconsistencies() == []
    assert claim(make_agent()) == [(job_id, 2)]


@pytest.mark.slow
def test_of_two_sweeps_at_once_one_gives_a_lease_back(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    outcomes = set()
    for order in every_order():
        job_id, agent = make_job(), make_agent()
        assert claim(agent) == [(job_id, 1)]
        attempt_start(agent=agent, job_id=job_id, attempt=1)
        Heartbeat(agent.id).update(actions=[Heartbeat.lease_map[job_id].remove()])
        sweep = partial(queue_reconcile, seconds=5)
        outcomes.add(order.race(sweep, sweep))
        assert inconsistencies() == []
    assert outcomes == {(1, 0), (0, 1)}


def test_healing_goes_on_where_its_time_was_over(make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.nosql.listing._BATCH", 2)
    monkeypatch.setattr("apps.jobs.services.reconciliation._BATCH", 2)
    jobs = [make_job() for _ in range(6)]
    for job_id in jobs:
        entry(job_id).delete()
    assert [queue_reconcile(seconds=0) for _ in range(3)] == [2, 2, 2]
    assert inconsistencies() == []
    ended = [make_job() for _ in range(6)]
    left = [entry(job_id) for job_id in ended]
    for job_id, deleted in zip(ended, left, strict=True):
        job_cancel(actor=ADMIN, job_id=job_id)
        deleted.save()
    while queue_reconcile(seconds=0) or inconsistencies():
        pass


def test_healing_a_queue_in_which_all_is_well_costs_few_calls(make_job: Callable[..., str]) -> None:
    for _ in range(30):
        make_job()
    with dynamodb_calls() as metering:
        assert queue_reconcile(seconds=5) == 0
    assert metering.calls <= 9
    assert metering.write_units == 0


# --- jobs and pipelines that are too large --------------------------------------------------------------------------


def definition_of(*commands: str) -> str:
    return "steps:\n" + "".join(f"- run: '{command}'\n" for command in commands)


def test_a_definition_of_54_kb_of_emoji_makes_a_job_that_runs(
    server: str, operator: Client, agent: AgentClient
) -> None:
    """Each is four bytes, and was twelve in the record, three times."""
    commands = ["🦆" * 130 for _ in range(100)]
    pipeline_save(
        actor=ADMIN,
        name="self",
        repository="https://git.example.com/app.git",
        default_ref="main",
        definition=definition_of(*commands),
    )
    assert operator.post("/jobs", json={}).status_code == 201
    assignment = agent.take()
    assert Job.get(assignment["job_id"]).stored_bytes() < 150_000


def pad(job_id: str, size: int) -> None:
    """Make the job's record this large, as an earlier version would have."""
    job = Job.get(job_id)
    job.definition = {**job.definition, "steps": [{**job.definition["steps"][0], "run": ""}]}
    job.definition["steps"][0]["run"] = "x" * (size - job.stored_bytes())
    job.save()
    assert job.stored_bytes() == size


def test_a_job_that_can_never_be_claimed_fails_by_itself_with_a_reason(
    make_job: Callable[..., str], operator: Client, agent: AgentClient
) -> None:
    large, small = make_job(labels=[]), make_job(labels=[])
    pad(large, 409_600)
    assert [assignment["job_id"] for assignment in agent.heartbeat()["jobs"]] == [small]
    job = operator.get(f"/jobs/{large}").json()
    assert (job["status"], job["attempt"]) == ("failed", 0)
    assert job["error_message"].startswith("No agent can run this job, because its definition and variables")
    assert inconsistencies() == []
    # It is as any ended job: its page, its log, its archive, another try.
    with clock.shifted(timedelta(minutes=1)):
        call_command("sweep")
    assert operator.get(f"/jobs/{large}/log").status_code == 200
    assert operator.post(f"/jobs/{large}/retry").status_code == 201


def test_the_largest_new_job_has_room_for_all_later_updates(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    job_id, agent = make_job(), make_agent()
    pad(job_id, MAX_NEW_JOB_BYTES)
    claim(agent)
    attempt_start(agent=agent, job_id=job_id, attempt=1)
    times = {"started_at": "2026-11-21T09:00:00.000000Z", "completed_at": "2026-11-21T09:00:01.000000Z"}
    steps = [{"name": "🦆" * 100, "state": "completed", "exit_code": 0, **times} for _ in range(100)]
    result = AttemptResult(exit_code=0, error_message="🦆" * 1000, steps=steps, log_chunks=10_000_000, commit="🦆" * 64)
    attempt_finish(agent=agent, job_id=job_id, attempt=1, result=result)
    assert Job.get(job_id).stored_bytes() < 350_000


def test_a_job_without_room_for_later_updates_is_refused_when_it_is_created(pipeline: str) -> None:
    with pytest.raises(InvalidInput, match="env: must be shorter: the job would take") as refusal:
        job_create(actor=ADMIN, env={"A": "x" * MAX_NEW_JOB_BYTES})
    assert refusal.value.code == "job_too_large"
    assert refusal.value.errors[0]["field"] == "env"


# Under 64 KB of YAML, and three times as much when it is stored.
HUGE = 'steps:\n- run: make\n  env:\n    A: "' + "\\a" * 31_000 + '"\n'


def test_a_pipeline_that_is_too_large_for_its_jobs_is_refused_when_it_is_saved(admin: Client) -> None:
    body = {"repository": "https://git.example.com/app.git", "default_ref": "main", "definition": HUGE}
    answer = admin.put("/pipelines/large", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "definition_invalid")
    (error,) = answer.json()["errors"]
    assert (error["field"], error["line"]) == ("definition", 1)
    assert error["message"].startswith("must be at most 131,072 bytes as JSON, not 186,1")


def test_a_repositorys_definition_that_is_too_large_fails_its_job_with_a_field_error(
    pipeline: str, agent: AgentClient
) -> None:
    pipeline_save(actor=ADMIN, name="repo", repository="https://g.example/a.git", default_ref="main", definition=None)
    job_create(actor=ADMIN, pipeline="repo")
    answer = agent.define(agent.take(), HUGE)
    assert (answer.status_code, answer.json()["code"]) == (422, "definition_invalid")
    assert answer.json()["errors"][0]["field"] == "definition"


def test_every_pipeline_that_is_accepted_makes_jobs(admin: Client, operator: Client) -> None:
    """64 KB of commands without names, which are copied from them."""
    line = "y" * 640
    text = definition_of(*[line] * 100)
    assert 64_000 < len(text) <= 65_536
    body = {"repository": "https://git.example.com/app.git", "default_ref": "main", "definition": text}
    assert admin.put("/pipelines/self", json=body).status_code == 201
    assert operator.post("/jobs", json={"env": {"A": "🦆" * 4000}}).status_code == 201
