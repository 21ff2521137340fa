"""The queue is fair: the most urgent job goes first, whatever its labels, and no waiting job is missed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.label_sets import position_job_id, set_id
from apps.jobs.models import EMPTY, SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import FRONTS, queue_head, queue_registry
from apps.jobs.services import claims, job_cancel, job_create, job_retry, jobs_claim, sets_prune
from apps.jobs.services.queue import MAX_SETS_OF_PIPELINE, MAX_SETS_OF_USER, entry_announce
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import TooManyRequests
from tests.clients import Client
from tests.conftest import ADMIN
from tests.jobs.conftest import MakeAgent
from tests.metering import dynamodb_calls
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

LABELS = [f"l{number:02d}" for number in range(20)]


def claim(agent: Actor, limit: int = 1) -> list[str]:
    """Poll as an agent with all labels, in a process that remembers nothing."""
    cache.clear()
    sets = queue_registry().sets_for(LABELS)
    return [claimed.job_id for claimed in jobs_claim(agent=agent, sets=sets, limit=limit)]


def hint(*labels: str) -> str | None:
    return QueueSet.get(SETS, set_id(labels)).first


def hint_hide(*labels: str) -> None:
    """Let the registry say that no job waits in the set, as after a crash between an entry's commit and its hint."""
    QueueSet(SETS, set_id(labels)).update(actions=[QueueSet.first.set(EMPTY)])


@contextmanager
def meanwhile(name: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something else right after a poll has read the head of this set for the first time."""
    done = threading.Event()

    def head(set_id: str, **options: Any) -> list[QueueEntry]:
        found = queue_head(set_id, **options)
        if set_id == name and not done.is_set():
            done.set()
            act()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apps.jobs.selectors.queue.queue_head", head)
        yield
    assert done.is_set()


def test_with_twenty_label_sets_a_job_of_priority_100_starts_before_jobs_of_priority_10(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    for label in LABELS:
        make_job(labels=[label], priority=10)
    urgent = make_job(labels=[LABELS[13]], priority=100)
    assert claim(make_agent()) == [urgent]


def test_jobs_of_twenty_label_sets_start_in_the_order_of_their_creation(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    jobs = [make_job(labels=[LABELS[number * 7 % 20]]) for number in range(40)]
    assert [claim(agent) for _ in range(41)] == [[job] for job in jobs] + [[]]


def test_a_poll_never_misses_the_only_waiting_entry(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    """Twenty sets are registered, since jobs waited in them lately, and one job waits in one of them."""
    agent = make_agent()
    for label in LABELS:
        make_job(labels=[label])
    while claim(agent, limit=4):
        pass
    for label in LABELS[:8]:
        job_id = make_job(labels=[label])
        assert claim(agent) == [job_id]


def test_a_heartbeat_gives_the_most_urgent_job_of_many_label_sets(
    server: str, pipeline: str, make_job: Callable[..., str]
) -> None:
    agent = enrolled(server, labels=LABELS)
    for label in LABELS:
        make_job(labels=[label], priority=10)
    urgent = make_job(labels=[LABELS[17]], priority=100)
    assert [assignment["job_id"] for assignment in agent.heartbeat()["jobs"]] == [urgent]


def test_a_poll_of_many_label_sets_costs_no_more_calls_than_one_of_four_did(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """The registry, four sets and the claim were six calls: now two sets, the claim, and the hint with a look again."""
    agent = make_agent()
    for label in LABELS * 2:
        make_job(labels=[label])
    claim(agent)
    with dynamodb_calls() as metering:
        assert len(claim(agent)) == 1
    assert metering.operations == ["Query", "Query", "Query", "TransactWriteItems", "UpdateItem", "Query"]
    assert metering.write_units <= 8 + 1


def test_an_idle_poll_of_many_label_sets_reads_the_registry_and_one_of_them(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    for label in LABELS:
        make_job(labels=[label])
    while claim(agent, limit=4):
        pass
    with dynamodb_calls() as metering:
        assert claim(agent) == []
    assert metering.operations == ["Query", "Query"]


def test_a_hint_is_never_less_urgent_than_a_waiting_job(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    agent = make_agent()
    for number, label in enumerate(LABELS * 3):
        make_job(labels=[label], priority=number * 37 % 101)
        if number % 3 == 0:
            claim(agent)
        assert Everything.read().hidden() == []


def test_a_hint_is_never_less_urgent_than_a_waiting_job_after_a_storm(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """Six threads create jobs and claim them, each as if it were a process of its own."""
    for label in LABELS[:6]:
        make_job(labels=[label])

    def storm(number: int) -> int:
        agent, taken = make_agent(), 0
        for turn in range(8):
            make_job(labels=[LABELS[(number + turn) % 6]], priority=(number * turn) % 100)
            taken += len(jobs_claim(agent=agent, sets=queue_registry().sets_for(LABELS), limit=2))
        return taken

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(storm, range(6))) > 0
    everything = Everything.read()
    assert everything.hidden() == []
    assert everything.inconsistencies() == []


def test_a_job_that_is_queued_while_a_claim_raises_the_hint_is_not_hidden(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """The claim has read the set's head, then the job comes and finds the old hint urgent enough."""
    agent = make_agent()
    for label in LABELS[:6]:
        make_job(labels=[label])
    with meanwhile(set_id([LABELS[0]]), lambda: make_job(labels=[LABELS[0]])):
        assert len(claim(agent)) == 1
    assert Everything.read().hidden() == []


def test_a_set_whose_hint_was_lost_is_found_by_as_many_polls_as_there_are_sets(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    agent = make_agent()
    for label in LABELS:
        make_job(labels=[label])
    while claim(agent, limit=4):
        pass
    job_id = make_job(labels=[LABELS[5]])
    hint_hide(LABELS[5])
    polls = [claim(agent) for _ in LABELS]
    assert [job_id] in polls


def test_the_sweep_corrects_a_hint_that_was_lost(make_job: Callable[..., str]) -> None:
    job_id = make_job(labels=["l00"])
    hint_hide("l00")
    assert Everything.read().hidden() == [job_id]
    sets_prune()
    assert Everything.read().hidden() == []
    assert position_job_id(str(hint("l00"))) == job_id


def test_rows_of_an_earlier_version_have_no_hint_and_hide_nothing(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    jobs = [make_job(labels=[label]) for label in LABELS]
    for label in LABELS:
        QueueSet(SETS, set_id([label])).update(actions=[QueueSet.first.remove()])
    agent = make_agent()
    polls = [claim(agent) for _ in range(len(LABELS) + len(LABELS) // FRONTS + 1)]
    assert sorted(job for poll in polls for job in poll) == sorted(jobs)


def test_a_set_that_the_registry_has_lost_is_added_again(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    job_id = make_job(labels=["l00"])
    QueueSet(SETS, set_id(["l00"])).delete()
    entry = QueueEntry.query(set_id(["l00"])).next()
    entry_announce(labels=["l00"], position=entry.position)
    assert claim(make_agent()) == [job_id]


def test_an_unread_set_that_may_have_a_more_urgent_job_is_not_passed_over(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """More hints are too urgent than a poll may read: it corrects them and takes nothing out of order."""
    for label in LABELS:
        make_job(labels=[label], priority=10)
    urgent = make_job(labels=[LABELS[19]], priority=50)
    for label in LABELS[:19]:
        QueueSet(SETS, set_id([label])).update(actions=[QueueSet.first.set(f"000#{label}")])
    agent = make_agent()
    polls = [claim(agent) for _ in range(4)]
    assert next(poll for poll in polls if poll) == [urgent]


def test_a_cancelled_job_costs_a_poll_a_read_at_most(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    jobs = [make_job(labels=[label]) for label in LABELS]
    job_cancel(actor=ADMIN, job_id=jobs[0])
    assert claim(make_agent()) == [jobs[1]]


# --- order within a priority ----------------------------------------------------------------------------------------


def test_after_a_race_the_order_is_exact_again_within_seconds(
    make_job: Callable[..., str], make_agent: MakeAgent
) -> None:
    """However many jobs are claimed meanwhile: a busy queue must not stay out of order."""
    agent, jobs = make_agent(), [make_job() for _ in range(12)]
    for _ in range(8):
        claims._widen_spread()
    sets = queue_registry().sets
    taken = []
    with clock.shifted(timedelta(seconds=8)):
        for _ in jobs:
            taken += [claimed.job_id for claimed in jobs_claim(agent=agent, sets=sets, limit=1)]
    assert taken == jobs


def test_a_job_that_lost_its_turn_is_passed_over_for_two_seconds_at_most(
    make_job: Callable[..., str], make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a race that goes on, the draw always falls on the last job; the first one goes as soon as its time is over."""
    monkeypatch.setattr("apps.jobs.services.claims.random.shuffle", lambda entries: entries.reverse())
    agent, jobs = make_agent(), [make_job() for _ in range(12)]
    taken = []
    for second in range(4):
        with clock.shifted(timedelta(seconds=second)):
            for _ in range(8):
                claims._widen_spread()
            taken += [claimed.job_id for claimed in jobs_claim(agent=agent, sets=queue_registry().sets, limit=1)]
    assert taken == [jobs[11], jobs[10], jobs[0], jobs[1]]


def test_a_race_never_lets_a_less_urgent_priority_go_first(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    agent = make_agent()
    late = [make_job(priority=10) for _ in range(6)]
    soon = {make_job(priority=20) for _ in range(6)}
    for _ in range(8):
        claims._widen_spread()
    taken = [jobs_claim(agent=agent, sets=queue_registry().sets, limit=1)[0].job_id for _ in range(6)]
    assert set(taken) == soon
    assert not set(taken) & set(late)


# --- how many label sets there may be ---------------------------------------------------------------------------------


def test_a_caller_with_random_labels_does_not_flood_the_registry(pipeline: str, operator: Client) -> None:
    """Each pipeline has its own share, and the caller one of all pipelines."""
    for number in range(4):
        pipeline_save(
            actor=ADMIN, name=f"p{number}", repository="https://g.example/a.git", default_ref="main", definition=None
        )
    answers = [
        operator.post("/jobs", json={"pipeline": f"p{number % 4}", "labels": [f"random-{number}"]})
        for number in range(MAX_SETS_OF_USER + 2)
    ]
    refused = [answer for answer in answers if answer.status_code != 201]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(429, "too_many_label_sets")] * 2
    assert refused[0].headers["Retry-After"] == "120"
    assert len(queue_registry().sets) == MAX_SETS_OF_USER


def test_the_api_tokens_of_a_user_share_the_users_limit(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.jobs.services.queue.MAX_SETS_OF_USER", 2)
    tokens = [replace(ADMIN, kind="token", id=f"token-{number}", owner_id="ada") for number in range(3)]
    for number, token in enumerate(tokens[:2]):
        job_create(actor=token, labels=[f"random-{number}"])
    with pytest.raises(TooManyRequests):
        job_create(actor=tokens[2], labels=["one-more"])


def test_a_pipeline_has_a_limited_number_of_label_sets(pipeline: str) -> None:
    for number in range(MAX_SETS_OF_PIPELINE):
        job_create(actor=ADMIN, labels=[f"random-{number}"])
    with pytest.raises(TooManyRequests, match="The jobs of the pipeline self wait under 20 different") as refusal:
        job_create(actor=ADMIN, labels=["one-more"])
    assert refusal.value.code == "too_many_label_sets"
    # Sets that are in use take any number of jobs, also in a process that does not know them yet.
    cache.clear()
    job_id = job_create(actor=ADMIN, labels=["random-3"]).job_id
    job_cancel(actor=ADMIN, job_id=job_id)
    assert job_retry(actor=ADMIN, job_id=job_id).labels == ["random-3"]


def test_a_label_set_that_is_pruned_makes_room_for_another(pipeline: str) -> None:
    jobs = [job_create(actor=ADMIN, labels=[f"random-{number}"]).job_id for number in range(MAX_SETS_OF_PIPELINE)]
    job_cancel(actor=ADMIN, job_id=jobs[0])
    sets_prune()
    with clock.shifted(timedelta(seconds=61)):
        assert sets_prune() == 1
        assert job_create(actor=ADMIN, labels=["one-more"]).labels == ["one-more"]


def test_a_repository_with_random_labels_fails_its_job_and_does_not_flood_the_registry(
    pipeline: str, agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with 422 and not 429, which the agent would repeat."""
    monkeypatch.setattr("apps.jobs.services.queue.MAX_SETS_OF_PIPELINE", 2)
    pipeline_save(actor=ADMIN, name="repo", repository="https://g.example/a.git", default_ref="main", definition=None)
    statuses = []
    for number in range(3):
        job_create(actor=ADMIN, pipeline="repo", git_ref=f"topic-{number}")
        assignment = agent.take()
        answer = agent.define(assignment, f"labels: [random-{number}]\nsteps: [{{run: make}}]\n")
        statuses.append((answer.status_code, answer.json()["code"]))
    assert statuses == [(409, "job_moved"), (422, "too_many_label_sets"), (422, "too_many_label_sets")]
    job = Job.find(assignment["job_id"])
    assert job.status == "running", "the agent reports how it ended"
