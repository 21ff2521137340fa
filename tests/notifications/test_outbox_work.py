"""The outbox: each item is done, in order for each key, and one that fails keeps only its own key back."""

import itertools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.notifications.selectors.outbox import OutboxItem, failed_items
from apps.notifications.services import RetryLater, outbox_add, outbox_run
from apps.notifications.states import Topic
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.nosql.transaction import Transaction
from tests.interleaving import before_call
from tests.metering import dynamodb_calls
from tests.properties.consistency import Items, tables_empty

pytestmark = pytest.mark.usefixtures("tables")


class Receiver:
    """What the items of a topic are given to. It remembers what it has done, and fails if asked to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.done: list[tuple[str, Any]] = []
        self.failing: dict[tuple[str, Any], Exception] = {}
        self.down: set[str] = set()
        self.during: Callable[[], object] = lambda: None

    def __call__(self, item: OutboxItem) -> None:
        what = (str(item.key), item.fact["number"])
        self.calls.append(what)
        self.during()
        if what in self.failing:
            raise self.failing[what]
        if what[0] in self.down:
            raise Unavailable("It does not answer.")
        self.done.append(what)

    def work(self, seconds: float = 10) -> int:
        return outbox_run({Topic.RUN: self}, seconds=seconds)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def add(key: str, number: int, topic: Topic = Topic.RUN) -> None:
    transaction = Transaction()
    outbox_add(transaction, topic=topic, key=key, fact={"number": number})
    transaction.commit()


def left() -> int:
    return len(list(Items().of(OutboxItem)))


class Ended(BaseException):
    """The process ends."""


def work_until(call: int, work: Callable[[], object]) -> bool:
    """Work, in a process that ends before its so-many-th call to DynamoDB. False if it has come to its end before."""

    def end() -> None:
        raise Ended

    with before_call(end, call=call):
        try:
            work()
        except Ended:
            return True
    return False


def test_items_of_a_key_are_done_in_their_order_and_those_of_others_too(receiver: Receiver) -> None:
    for number in range(35):
        add(f"key {number % 3}", number)
    assert receiver.work() == 35
    for key in range(3):
        assert [number for name, number in receiver.done if name == f"key {key}"] == list(range(key, 35, 3))
    assert (left(), receiver.work()) == (0, 0)


def test_an_empty_outbox_costs_four_reads(receiver: Receiver) -> None:
    with dynamodb_calls() as metering:
        assert receiver.work() == 0
    assert metering.operations == ["Query"] * 4


def test_an_item_that_fails_is_tried_again_after_pauses_and_keeps_only_its_own_key_back(receiver: Receiver) -> None:
    for key in ("bad", "good"):
        add(key, 1)
        add(key, 2)
    receiver.failing["bad", 1] = Unavailable("GitHub does not answer.")
    assert receiver.work() == 2
    assert receiver.done == [("good", 1), ("good", 2)]
    # Not before its pause has ended, also for what was added meanwhile.
    add("bad", 3)
    assert (receiver.work(), receiver.calls.count(("bad", 1))) == (0, 1)
    receiver.failing.clear()
    with clock.shifted(timedelta(seconds=11)):
        assert receiver.work() == 3
    assert receiver.done[2:] == [("bad", 1), ("bad", 2), ("bad", 3)]


def test_the_receiver_may_say_when_to_come_again(receiver: Receiver) -> None:
    add("key", 1)
    receiver.failing["key", 1] = RetryLater("The rate limit is reached.", seconds=300)
    receiver.work()
    receiver.failing.clear()
    with clock.shifted(timedelta(seconds=290)):
        assert receiver.work() == 0
    with clock.shifted(timedelta(seconds=301)):
        assert receiver.work() == 1


def test_what_fails_for_24_hours_is_in_the_list_of_failed_items_and_the_next_one_follows(receiver: Receiver) -> None:
    add("key", 1)
    receiver.failing["key", 1] = Unavailable("GitHub does not answer.")
    tries = 0
    with clock.shifted(timedelta(hours=23)):
        add("key", 2)
    for minutes in range(0, 24 * 60 + 120, 120):
        with clock.shifted(timedelta(minutes=minutes)):
            tries += 1
            receiver.work()
            if minutes < 24 * 60:
                assert receiver.done == []
    assert receiver.done == [("key", 2)]
    with clock.shifted(timedelta(hours=24)):
        (failed,) = failed_items(clock.now())
    assert (failed.key, failed.fact, failed.attempts) == ("key", {"number": 1}, tries)
    assert failed.problem == "GitHub does not answer."
    assert left() == 1


def test_a_poison_item_is_given_up_after_five_attempts_and_blocks_no_other_key(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    add("poison", 1)
    add("poison", 2)
    add("unknown", 3, Topic.CHECKS)
    receiver.failing["poison", 1] = ValueError("with a secret in it")
    for hours in range(5):
        with clock.shifted(timedelta(hours=hours)):
            add("good", hours)
            receiver.work()
            assert ("good", hours) in receiver.done
    assert receiver.done.count(("poison", 2)) == 1
    failed = {item.key: item for item in failed_items(clock.now())}
    assert {key: item.attempts for key, item in failed.items()} == {"poison": 5, "unknown": 5}
    assert failed["poison"].problem == "an error in this program: ValueError"


def test_a_crash_anywhere_does_an_item_once_or_twice_and_never_not() -> None:
    for call in itertools.count():
        receiver = Receiver()
        add("key", call)
        add("key", -1)
        crashed = work_until(call, receiver.work)
        # The lane of the process that ended is free after a minute.
        with clock.shifted(timedelta(seconds=61)):
            receiver.work()
        assert receiver.done.count(("key", call)) in (1, 2)
        assert receiver.done.index(("key", call)) < receiver.done.index(("key", -1))
        assert left() == 0
        if not crashed:
            break
    assert call == 15


ACTS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2)),
    st.tuples(st.just("work"), st.one_of(st.none(), st.integers(0, 20))),
    st.tuples(st.just("wait"), st.sampled_from([5, 61])),
    st.tuples(st.just("fail"), st.integers(0, 2)),
)


@pytest.mark.parametrize("number", [pytest.param(8, id="few"), pytest.param(300, id="many", marks=pytest.mark.nightly)])
def test_whatever_happens_each_item_is_done_in_the_order_of_its_key(number: int) -> None:
    """Processes end anywhere, keys fail for a while, and time passes."""

    @settings(max_examples=number, deadline=None, database=None)
    @given(acts=st.lists(ACTS, max_size=14))
    def check(acts: list[tuple[str, int | None]]) -> None:
        tables_empty()
        receiver = Receiver()
        added: dict[str, list[int]] = {}
        crashes = 0
        with ExitStack() as time:
            for place, (act, value) in enumerate(acts):
                key = f"key {value}"
                if act == "add":
                    add(key, place)
                    added.setdefault(key, []).append(place)
                elif act == "fail":
                    receiver.down ^= {key}
                elif act == "wait":
                    time.enter_context(clock.shifted(timedelta(seconds=value)))
                else:
                    crashes += work_until(1_000 if value is None else value, receiver.work)
            receiver.down = set()
            for _ in range(2):
                time.enter_context(clock.shifted(timedelta(minutes=16)))
                receiver.work()
        for key, numbers in added.items():
            done = [number for name, number in receiver.done if name == key]
            assert list(dict.fromkeys(done)) == numbers
            assert len(done) - len(numbers) <= crashes
        assert left() == 0

    check()


def test_one_process_at_a_time_works_for_a_key(receiver: Receiver) -> None:
    add("key", 1)
    second = Receiver()
    receiver.during = second.work
    assert (receiver.work(), second.calls) == (1, [])


def test_what_is_added_while_a_lane_is_given_up_is_not_lost(receiver: Receiver) -> None:
    for call in itertools.count():
        add("key", 0)
        added: list[bool] = []

        def another(added: list[bool] = added) -> None:
            added.append(True)
            add("key", 1)
            Receiver().work()

        with before_call(another, call=call):
            receiver.work()
        with clock.shifted(timedelta(seconds=61)):
            receiver.work()
        assert left() == 0
        if not added:
            break


def test_a_slow_receiver_does_not_keep_the_others_back(receiver: Receiver) -> None:
    """All wait for each other: that works only if they are called at the same time."""
    together = threading.Barrier(4, timeout=10)
    for key in range(4):
        add(f"key {key}", 1)
    receiver.during = together.wait
    assert receiver.work() == 4
