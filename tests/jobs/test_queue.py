"""The queue is fair: the most urgent job goes first, whatever its labels, and no waiting job is missed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.label_sets import position_job_id, set_id
from apps.jobs.models import EMPTY, SETS, Job, QueueEntry, QueueSet
from apps.jobs.selectors.queue import FRONTS, QueueFront, queue_head, queue_registry
from apps.jobs.services import claims, job_cancel, job_create, job_retry, jobs_claim, queue, sets_prune
from apps.jobs.services.queue import MAX_SETS_OF_PIPELINE, entry_announce
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import TooManyRequests
from tests.clients import Client
from tests.conftest import ADMIN
from tests.faults.injection import Fault, outage
from tests.interleaving import before_call
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


@pytest.mark.slow
def test_a_hint_is_never_less_urgent_than_a_waiting_job(make_job: Callable[..., str], make_agent: MakeAgent) -> None:
    agent = make_agent()
    for number, label in enumerate(LABELS * 3):
        make_job(labels=[label], priority=number * 37 % 101)
        if number % 3 == 0:
            claim(agent)
        assert Everything.read().hidden() == []


@pytest.mark.slow
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


def test_a_caller_with_random_labels_does_not_flood_the_registry(
    pipeline: str, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pipeline has its own share, and the caller one of all pipelines."""
    monkeypatch.setattr("apps.jobs.services.queue.MAX_SETS_OF_PIPELINE", 3)
    monkeypatch.setattr("apps.jobs.services.queue.MAX_SETS_OF_USER", 8)
    for number in range(4):
        pipeline_save(
            actor=ADMIN, name=f"p{number}", repository="https://g.example/a.git", default_ref="main", definition=None
        )
    answers = [
        operator.post("/jobs", json={"pipeline": f"p{number % 4}", "labels": [f"random-{number}"]})
        for number in range(10)
    ]
    refused = [answer for answer in answers if answer.status_code != 201]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(429, "too_many_label_sets")] * 2
    assert refused[0].headers["Retry-After"] == "120"
    assert len(queue_registry().sets) == 8


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


# --- the registry, row by row -----------------------------------------------------------------------------------------

NAME = set_id(["gpu"])


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass for what the process caches."""
    now = [clock.now().timestamp()]
    watch = SimpleNamespace(time=lambda: now[0])
    monkeypatch.setattr("django.core.cache.backends.base.time", watch)
    monkeypatch.setattr("django.core.cache.backends.locmem.time", watch)

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def row(name: str = NAME) -> dict[str, Any]:
    """The set's row of the registry."""
    return dict(QueueSet.get(SETS, name).to_simple_dict())


def other_actor(person: str | None) -> Actor:
    return replace(ADMIN, kind="token", id="token-1", owner_id=person)


def test_a_label_set_is_registered_once_and_known_to_the_process_for_20_seconds(
    tables: None, wait: Callable[[float], None]
) -> None:
    with dynamodb_calls() as metering:
        queue.set_register(labels=["b", "a", "b"])
        wait(19)
        queue.set_register(labels=["a", "b"])
    assert metering.operations == ["UpdateItem", "UpdateItem"]
    name = set_id(["a", "b"])
    assert row(name) == {"set_id": SETS, "position": name, "labels": ["a", "b"], "first": EMPTY}
    wait(2)
    with dynamodb_calls() as metering:
        queue.set_register(labels=["a", "b"])
        queue.set_register(labels=["a", "b"])
    assert metering.operations == ["UpdateItem"]


def test_a_use_of_a_label_set_removes_the_mark_of_the_sweep_and_leaves_its_hint(tables: None) -> None:
    QueueSet(SETS, NAME, labels=["gpu"], first="050#1#x", retiring_at="2026-11-21T09:00:00.000000Z").save()
    queue.set_register(labels=["gpu"])
    assert (row().get("retiring_at"), row()["first"]) == (None, "050#1#x")


def test_a_label_set_that_another_process_adds_and_a_sweep_marks_meanwhile_keeps_its_hint_and_loses_the_mark(
    tables: None,
) -> None:
    def meanwhile_added() -> None:
        QueueSet(SETS, NAME, labels=["gpu"], first="050#1#x", retiring_at="2026-11-21T09:00:00.000000Z").save()

    with before_call(meanwhile_added, call=1):
        queue.set_register(labels=["gpu"])
    assert (row().get("retiring_at"), row()["first"]) == (None, "050#1#x")


def test_a_new_label_set_is_its_pipelines_and_its_users(tables: None) -> None:
    queue.set_open(labels=["gpu"], pipeline="self", actor=other_actor("ada"))
    assert (row()["pipeline"], row()["opened_by"]) == ("self", "ada")
    # The next user of the set does not take it over.
    cache.clear()
    queue.set_open(labels=["gpu"], pipeline="other", actor=other_actor("bob"))
    assert (row()["pipeline"], row()["opened_by"]) == ("self", "ada")
    queue.set_open(labels=["arm"], pipeline="self", actor=Actor("agent", "agent-1", "build"))
    assert "opened_by" not in row(set_id(["arm"]))


@pytest.mark.parametrize(
    ("limit", "refused", "taken"),
    [
        ("MAX_SETS", ("other", "bob"), None),
        ("MAX_SETS_OF_PIPELINE", ("self", "bob"), ("other", "ada")),
        ("MAX_SETS_OF_USER", ("other", "ada"), ("self", "bob")),
    ],
)
def test_each_limit_counts_its_own_label_sets(
    tables: None,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    refused: tuple[str, str],
    taken: tuple[str, str] | None,
) -> None:
    monkeypatch.setattr(queue, limit, 2)
    for label in ("a", "b"):
        queue.set_open(labels=[label], pipeline="self", actor=other_actor("ada"))
    with pytest.raises(TooManyRequests, match="wait under 2 different combinations of labels, of at most 2") as refusal:
        queue.set_open(labels=["c"], pipeline=refused[0], actor=other_actor(refused[1]))
    assert (refusal.value.code, refusal.value.retry_after) == ("too_many_label_sets", 120)
    if taken:
        queue.set_open(labels=["c"], pipeline=taken[0], actor=other_actor(taken[1]))


def test_agents_and_the_system_have_no_limit_of_their_own(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_SETS_OF_USER", 1)
    for label in ("a", "b", "c"):
        queue.set_open(labels=[label], pipeline=label, actor=Actor("agent", "agent-1", "build"))


def test_the_limits_are_200_sets_20_of_a_pipeline_and_50_of_a_user() -> None:
    assert (queue.MAX_SETS, queue.MAX_SETS_OF_PIPELINE, queue.MAX_SETS_OF_USER) == (200, 20, 50)


# --- hints, row by row ------------------------------------------------------------------------------------------------


def announced(first: str | None, position: str) -> tuple[str | None, list[str]]:
    """The set's hint after the position was announced, and the calls that this took."""
    QueueSet(SETS, NAME, labels=["gpu"], first=first).save()
    with dynamodb_calls() as metering:
        entry_announce(labels=["gpu"], position=position)
    return row().get("first"), metering.operations


def test_an_announced_entry_lowers_the_hint_only_if_it_is_more_urgent(tables: None) -> None:
    assert announced("050#2#b", "050#1#a") == ("050#1#a", ["GetItem", "UpdateItem"])
    assert announced("050#2#b", "050#2#b") == ("050#2#b", ["GetItem"])
    assert announced("050#2#b", "050#3#c") == ("050#2#b", ["GetItem"])
    assert announced(EMPTY, "050#3#c") == ("050#3#c", ["GetItem", "UpdateItem"])
    assert announced(None, "050#3#c") == (None, ["GetItem"])


def test_a_hint_that_becomes_more_urgent_meanwhile_stays(tables: None) -> None:
    QueueSet(SETS, NAME, labels=["gpu"], first="050#9#z").save()
    lower = partial(QueueSet(SETS, NAME).update, actions=[QueueSet.first.set("050#1#a")])
    with before_call(lower, call=1), dynamodb_calls() as metering:
        entry_announce(labels=["gpu"], position="050#5#m")
    assert row()["first"] == "050#1#a"
    assert metering.operations.count("GetItem") == 2


def test_an_announcement_is_given_up_after_four_tries(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def lower(name: str, *_: object) -> bool:
        tries.append(name)
        return False

    monkeypatch.setattr(queue, "_hint_lower", lower)
    entry_announce(labels=["gpu"], position="050#5#m")
    assert tries == [NAME] * 4


def test_an_announcement_adds_a_row_that_is_missing_and_then_corrects_its_hint(tables: None) -> None:
    entry_announce(labels=["gpu"], position="050#5#m")
    assert (row()["labels"], row()["first"]) == (["gpu"], "050#5#m")


def test_a_database_that_fails_after_a_job_was_queued_does_not_fail_the_request(
    tables: None, caplog: pytest.LogCaptureFixture
) -> None:
    with outage(Fault.ERROR):
        entry_announce(labels=["gpu"], position="050#5#m")
    assert "the hint of a label set was not corrected" in caplog.text


def corrected(hints: dict[str, str | None], heads: dict[str, list[str]], *gone: str, limit: int = 2) -> dict[str, Any]:
    """The hints after a front with these heads was compared with them. The entries are in the queue, but not `gone`."""
    for name, first in hints.items():
        QueueSet(SETS, name, labels=[name], first=first).save()
    front = QueueFront([QueueSet.get(SETS, name) for name in hints], limit=limit)
    for name, positions in heads.items():
        front.heads[name] = [QueueEntry(name, position, attempt=1) for position in positions]
        for entry in front.heads[name]:
            if entry.position not in gone:
                entry.save()
    queue.hints_correct(front, gone=gone)
    return {name: QueueSet.get(SETS, name).first for name in hints}


MANY = dict.fromkeys("abcd", "050#0#x")


def test_a_hint_that_misleads_polls_of_many_sets_is_raised_to_the_first_entry_that_still_waits(tables: None) -> None:
    hints = corrected({**MANY, "e": "050#1#x"}, {"e": ["050#3#x", "050#4#x"]})
    assert hints["e"] == "050#3#x"
    hints = corrected({**MANY, "f": "050#1#x"}, {"f": ["050#1#x", "050#4#x"]}, "050#1#x")
    assert hints["f"] == "050#4#x"


def test_a_hint_of_a_set_in_which_no_job_waits_becomes_empty(tables: None) -> None:
    assert corrected({**MANY, "e": "050#1#x"}, {"e": []})["e"] == EMPTY
    assert corrected({**MANY, "f": "050#1#x"}, {"f": ["050#1#x"]}, "050#1#x")["f"] == EMPTY
    # As many entries as were read: others may follow. It is as urgent as the last of them.
    heads = {"g": ["050#1#x", "050#2#x"]}
    assert corrected({**MANY, "g": "050#1#x"}, heads, "050#1#x", "050#2#x")["g"] == "050#2#x"


def test_a_hint_is_not_raised_where_no_poll_is_misled(tables: None) -> None:
    # An agent with four sets reads all of them.
    four = dict.fromkeys("abc", "050#0#x")
    assert corrected({**four, "e": "050#1#x"}, {"e": ["050#3#x"]})["e"] == "050#1#x"
    # The set's entry is more urgent than all other hints.
    later = dict.fromkeys("abcd", "050#9#x")
    assert corrected({**later, "f": "050#1#x"}, {"f": ["050#3#x"]})["f"] == "050#1#x"
    equal = dict.fromkeys("abcd", "050#3#x")
    assert corrected({**equal, "g": "050#1#x"}, {"g": ["050#3#x"]})["g"] == "050#1#x"
    assert corrected({**later, "h": "050#1#x"}, {"h": []})["h"] == EMPTY


def test_a_hint_that_hides_an_entry_is_lowered_however_few_sets_there_are(tables: None) -> None:
    assert corrected({"e": "050#5#x"}, {"e": ["050#3#x"]})["e"] == "050#3#x"
    assert corrected({"e": EMPTY}, {"e": ["050#3#x"]})["e"] == "050#3#x"


def test_a_row_without_a_hint_gets_one(tables: None) -> None:
    assert corrected({**MANY, "e": None}, {"e": ["050#3#x"]})["e"] == "050#3#x"


def test_a_hint_that_another_process_has_changed_is_not_raised(tables: None) -> None:
    for seen in ("050#1#x", None):
        lower = partial(QueueSet(SETS, "e").update, actions=[QueueSet.first.set("050#2#x")])
        with before_call(lower, operations=frozenset({"UpdateItem"})):
            assert corrected({**MANY, "e": seen}, {"e": ["050#3#x"]})["e"] == "050#2#x"


def test_a_row_that_is_pruned_while_its_hint_is_raised_does_not_come_back(tables: None) -> None:
    QueueSet(SETS, "e", labels=["e"]).save()
    delete = partial(QueueSet(SETS, "e").delete)
    with before_call(delete, operations=frozenset({"UpdateItem"})), pytest.raises(QueueSet.DoesNotExist):
        corrected({**MANY, "e": None}, {"e": ["050#3#x"]})


def test_an_entry_that_was_announced_while_the_hint_was_raised_lowers_it_again(tables: None) -> None:
    def announce() -> None:
        QueueEntry("e", "050#2#x", attempt=1).save()
        entry_announce(labels=["e"], position="050#2#x")

    with before_call(announce, operations=frozenset({"UpdateItem"})):
        assert corrected({**MANY, "e": "050#1#x"}, {"e": ["050#3#x"]})["e"] == "050#2#x"


def test_a_database_that_fails_after_a_claim_does_not_fail_the_poll(
    tables: None, caplog: pytest.LogCaptureFixture
) -> None:
    front = QueueFront([QueueSet(SETS, name, labels=[name], first="050#9#x") for name in "abcde"])
    front.heads["e"] = [QueueEntry("e", "050#1#x", attempt=1)]
    with outage(Fault.ERROR):
        queue.hints_correct(front, gone=[])
    assert "the hints of label sets were not corrected" in caplog.text


# --- pruning ----------------------------------------------------------------------------------------------------------


def test_an_empty_set_is_marked_and_pruned_when_it_is_still_marked_and_empty_after_a_minute(
    tables: None, now: str
) -> None:
    QueueSet(SETS, NAME, labels=["gpu"], first=EMPTY).save()
    for seconds, pruned in ((0, 0), (60, 0), (60.001, 1), (61, 0)):
        with clock.shifted(timedelta(seconds=seconds)):
            assert sets_prune() == pruned, seconds
            if seconds < 60.001:
                assert row()["retiring_at"] == now
    assert queue_registry().sets == []


def test_a_marked_set_in_which_a_job_waits_is_not_pruned_and_loses_its_mark_and_hides_nothing(
    tables: None, now: str
) -> None:
    QueueSet(SETS, NAME, labels=["gpu"], first="050#5#x", retiring_at=now).save()
    QueueEntry(NAME, "050#3#x", attempt=1).save()
    with clock.shifted(timedelta(seconds=90)):
        assert sets_prune() == 0
    assert (row().get("retiring_at"), row()["first"]) == (None, "050#3#x")
    with dynamodb_calls() as metering:
        assert sets_prune() == 0
    assert metering.operations == ["Query", "Query"]


def test_a_set_that_is_used_again_while_it_is_pruned_or_marked_stays(tables: None, now: str) -> None:
    for marked in (now, None):
        QueueSet(SETS, NAME, labels=["gpu"], first=EMPTY, retiring_at=marked).save()
        changed = QueueSet.retiring_at.remove() if marked else QueueSet.retiring_at.set(now)
        use = partial(QueueSet(SETS, NAME).update, actions=[changed])
        with clock.shifted(timedelta(seconds=90)), before_call(use, call=2):
            assert sets_prune() == 0
        assert row()["labels"] == ["gpu"]


def test_a_set_that_is_gone_while_it_is_marked_does_not_come_back(tables: None) -> None:
    QueueSet(SETS, NAME, labels=["gpu"], first=EMPTY).save()
    with before_call(QueueSet(SETS, NAME).delete, call=2):
        assert sets_prune() == 0
    assert queue_registry().sets == []


def test_a_sweep_stops_pruning_when_its_time_is_over(tables: None) -> None:
    for name in "abc":
        QueueSet(SETS, name, labels=[name], first=EMPTY, retiring_at="2026-11-21T09:00:00.000000Z").save()
    assert [sets_prune(seconds=0) for _ in range(4)] == [1, 1, 1, 0]
