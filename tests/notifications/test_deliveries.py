"""Messages reach their targets at least once, in order for each, for 24 hours; attempts are logged and repeated."""

import itertools
import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from apps.accounts.policies import ROLES
from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.notifications.selectors.deliveries import delivery_get, delivery_list
from apps.notifications.selectors.targets import target_get
from apps.notifications.services import deliveries as deliveries_module
from apps.notifications.services import (
    delivery_redeliver,
    target_change,
    target_delete,
    target_secret_rotate,
    target_test,
)
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden, NotFound
from tests.conftest import OPERATOR
from tests.notifications.conftest import deliveries, happen, rule_made, sweep, target_made
from tests.notifications.test_outbox_work import work_until
from tests.webhooks import Received, Receiver

VIEWER = Actor("user", "01kaviewer000000000000000", "viewer", frozenset(ROLES["viewer"]))


def numbers(hook: Receiver, path: str = "/hook") -> list[int]:
    """What arrived there, in its order."""
    return [json.loads(request.body)["data"]["number"] for request in hook.requests if request.path == path]


def refuse(status: int = 503, **headers: str) -> Any:
    return lambda _request: (status, headers)


def test_a_message_is_delivered_and_its_attempt_is_logged(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    hook.content = b"thank you\r\n"
    hook.answer = lambda _request: (200, {})
    assert happen() == 1
    assert (sweep(), sweep()) == (1, 0)
    (request,) = hook.requests
    assert json.loads(request.body)["type"] == "run.failed"
    (delivery,) = deliveries(target)
    (attempt,) = delivery.attempts
    assert (delivery.state, attempt["status"], attempt["problem"]) == ("delivered", 200, None)
    assert attempt["excerpt"] == "thank you"
    assert 0 <= attempt["milliseconds"] < 5_000
    assert target_get(str(target.target_id)).delivered_at


def test_messages_to_one_target_arrive_in_their_order_though_the_first_fails(hook: Receiver) -> None:
    rule_made(target_made(hook))
    hook.answer = refuse()
    for number in (1, 2, 3):
        happen(number)
    sweep()
    assert numbers(hook) == [1]
    hook.answer = lambda _request: (204, {})
    sweep(after=timedelta(seconds=11))
    assert numbers(hook) == [1, 1, 2, 3]
    assert [delivery.attempt_count for delivery in deliveries()] == [2, 1, 1]


def test_one_slow_target_blocks_no_other(hook: Receiver) -> None:
    """The slow one answers only after the other message has arrived."""
    arrived = threading.Event()

    def answer(request: Received) -> tuple[int, dict[str, str]]:
        if request.path == "/slow":
            return (204, {}) if arrived.wait(4) else (503, {})
        arrived.set()
        return 204, {}

    hook.answer = answer
    for path in ("/slow", "/quick"):
        rule_made(target_made(hook, path=path))
    happen()
    sweep()
    assert {delivery.target_name: delivery.state for delivery in deliveries()} == {
        "/slow": "delivered",
        "/quick": "delivered",
    }


def test_a_target_that_fails_for_long_is_shown_and_not_retried_for_ever(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    hook.answer = refuse()
    for number in (1, 2, 3):
        happen(number)
    for hours in range(0, 24, 2):
        sweep(after=timedelta(hours=hours))
    shown = target_get(str(target.target_id))
    assert (shown.problem, bool(shown.failing_since)) == ("it answers with 503", True)
    assert numbers(hook) == [1] * 12
    # After a day each of those that waited is given up without an attempt.
    sweep(after=timedelta(hours=24))
    found = deliveries(target)
    assert [delivery.state for delivery in found] == ["failed"] * 3
    assert found[0].attempt_count == len(found[0].attempts) == 12
    assert found[1].reason == "The target still failed when the message was a day old."
    assert numbers(hook) == [1] * 12
    # A new message is tried, and shows that it works again.
    with clock.shifted(timedelta(hours=25)):
        happen(4)
        hook.answer = lambda _request: (204, {})
        sweep()
    assert numbers(hook)[12:] == [4]
    assert target_get(str(target.target_id)).failing_since is None


def test_nothing_inside_our_network_is_requested_and_no_redirect_followed(hook: Receiver, settings: Any) -> None:
    """Where the name leads is checked with each attempt, also if it was allowed when the target was made."""
    rule_made(target_made(hook))
    happen()
    hook.answer = lambda _request: (302, {"Location": "http://169.254.169.254/latest/meta-data/"})
    sweep()
    assert deliveries()[0].attempts[0]["problem"] == "it answers with 302"
    settings.OUTGOING_NETWORKS = []
    sweep(after=timedelta(seconds=11))
    assert "is not a public address" in deliveries()[0].attempts[1]["problem"]
    assert (deliveries()[0].state, len(hook.requests)) == ("retrying", 1)


def test_the_log_keeps_the_newest_attempts(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries_module, "ATTEMPTS_KEPT", 2)
    rule_made(target_made(hook))
    happen()
    for number in range(4):
        hook.answer = refuse(500 + number)
        sweep(after=timedelta(hours=number))
    (delivery,) = deliveries()
    assert ([attempt["status"] for attempt in delivery.attempts], delivery.attempt_count) == ([502, 503], 4)


def test_what_a_target_does_not_want_keeps_the_others_back_for_five_attempts(hook: Receiver) -> None:
    rule_made(target_made(hook))
    happen(1)
    happen(2)
    hook.answer = lambda request: (400 if b'"number":1' in request.body else 204, {})
    for hours in range(5):
        sweep(after=timedelta(hours=hours))
    assert numbers(hook) == [1] * 5 + [2]
    assert [delivery.state for delivery in deliveries()] == ["failed", "delivered"]


def test_a_target_says_when_to_come_again(hook: Receiver) -> None:
    rule_made(target_made(hook))
    happen()
    hook.answer = refuse(429, **{"Retry-After": "600"})
    sweep()
    sweep(after=timedelta(seconds=590))
    assert len(hook.requests) == 1
    hook.answer = lambda _request: (204, {})
    assert sweep(after=timedelta(seconds=601)) == 1


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_crash_between_act_and_delivery_delivers_once_or_twice_and_never_not(hook: Receiver, step: int) -> None:
    rule_made(target_made(hook))

    for call in itertools.count(step=step):
        happen(call)
        crashed = work_until(call, sweep)
        sweep(after=timedelta(seconds=61))
        assert numbers(hook).count(call) in (1, 2)
        if not crashed:
            break
    assert call > 10


def test_a_redelivery_has_the_id_of_its_message_and_comes_after_those_that_wait(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    happen(1)
    sweep()
    (first,) = deliveries(target)
    happen(2)
    fresh = delivery_redeliver(actor=OPERATOR, delivery_id=str(first.delivery_id))
    sweep()
    assert numbers(hook) == [1, 2, 1]
    assert hook.requests[0].headers["webhook-id"] == hook.requests[2].headers["webhook-id"] == first.message_id
    assert hook.requests[1].headers["webhook-id"] != first.message_id
    assert delivery_get(str(fresh.delivery_id)).requested_by == "operator"
    (event,) = audit_search(action=Action.NOTIFICATION_REDELIVERED).records
    assert event.detail == {"delivery": first.delivery_id, "type": "run.failed"}


def test_a_test_message_is_sent_at_once_past_those_that_wait(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    happen()
    hook.answer = refuse(404)
    assert target_test(actor=OPERATOR, target_id=str(target.target_id)).attempts[0]["status"] == 404
    hook.answer = lambda _request: (204, {})
    assert target_test(actor=OPERATOR, target_id=str(target.target_id)).state == "delivered"
    assert [json.loads(request.body)["type"] for request in hook.requests] == ["test", "test"]
    assert target_get(str(target.target_id)).failing_since is None
    assert [event.result for event in audit_search(action=Action.NOTIFICATION_TARGET_TESTED).records] == [
        "ok",
        "failed",
    ]


def test_messages_to_a_deleted_target_are_not_sent(hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    happen()
    target_delete(actor=OPERATOR, target_id=str(target.target_id))
    sweep()
    assert hook.requests == []
    assert [delivery.reason for delivery in deliveries(target)] == ["The target was deleted."]
    with pytest.raises(NotFound):
        delivery_redeliver(actor=OPERATOR, delivery_id=str(deliveries(target)[0].delivery_id))


def test_what_waits_goes_to_the_new_address_with_the_new_secret(hook: Receiver) -> None:
    target = target_made(hook, path="/old")
    rule_made(target)
    happen()
    target_change(actor=OPERATOR, target_id=str(target.target_id), url=f"{hook.url}/new")
    target_secret_rotate(actor=OPERATOR, target_id=str(target.target_id))
    sweep()
    (request,) = hook.requests
    assert request.path == "/new"
    assert len(request.headers["webhook-signature"].split(" ")) == 2


def test_deliveries_are_listed_in_pages_of_all_targets_and_of_one(hook: Receiver) -> None:
    first, second = target_made(hook, path="/1"), target_made(hook, path="/2")
    for target in (first, second):
        rule_made(target)
    for number in range(3):
        happen(number)
    page = delivery_list(limit=4)
    rest = delivery_list(limit=4, cursor=page.next_cursor)
    assert (len(page.deliveries), len(rest.deliveries), rest.next_cursor) == (4, 2, None)
    of_one = delivery_list(target_id=str(first.target_id)).deliveries
    assert [delivery.message["data"]["number"] for delivery in of_one] == [2, 1, 0]
    with clock.shifted(timedelta(days=31)), pytest.raises(NotFound):
        delivery_get(str(of_one[0].delivery_id))


def test_viewers_repeat_and_test_nothing(hook: Receiver) -> None:
    target = target_made(hook)
    with pytest.raises(Forbidden):
        target_test(actor=VIEWER, target_id=str(target.target_id))
    with pytest.raises(Forbidden):
        delivery_redeliver(actor=VIEWER, delivery_id="1.1")
    assert hook.requests == []
