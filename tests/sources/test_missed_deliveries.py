"""Deliveries that GitHub could not make are taken in later, each once."""

from datetime import timedelta
from typing import Any

import pytest

from apps.sources.models import Connection
from apps.sources.selectors import delivery_list
from apps.sources.services import delivery_add
from apps.sources.services.missed_deliveries import deliveries_reconcile
from controlplane.lib import clock
from tests.metering import dynamodb_calls
from tests.sources.conftest import app_connection, connection_of
from tests.sources.fake_provider import FakeProvider

pytestmark = pytest.mark.usefixtures("tables")


def reconcile() -> int:
    return deliveries_reconcile(seconds=5)


def push(after: str) -> dict[str, Any]:
    repository = {"id": 1, "full_name": "acme/shop", "default_branch": "main"}
    return {"ref": "refs/heads/main", "before": "a" * 40, "after": after * 40, "repository": repository, "commits": []}


def arrived() -> list[str]:
    """The ids of the deliveries that are stored, oldest first."""
    return [str(one.delivery_id) for one in reversed(delivery_list("github").deliveries)]


def later(minutes: float) -> Any:
    return clock.shifted(timedelta(minutes=minutes))


def test_missed_deliveries_are_taken_in_once_and_asked_for_every_five_minutes(provider: FakeProvider) -> None:
    app_connection(provider).save()
    provider.deliver("push", push("b"), guid="one", lost=True)
    provider.deliver("push", push("c"), guid="two", lost=True)
    assert reconcile() == 2
    assert arrived() == ["one", "two"]
    (newest, _) = delivery_list("github").deliveries
    assert (newest.repository, newest.summary, newest.state) == ("acme/shop", "push to main", "pending")
    provider.deliver("push", push("d"), guid="three", lost=True)
    asked = len(provider.asked)
    with dynamodb_calls() as metering:
        assert reconcile() == 0
    assert (len(provider.asked), metering.calls) == (asked, 1)
    with later(6):
        assert reconcile() == 1
    assert arrived() == ["one", "two", "three"]


def test_a_delivery_whose_answer_alone_was_lost_is_not_taken_in_again(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    connection.save()
    provider.deliver("push", push("b"), guid="one", lost=True)
    from apps.sources.providers.interface import provider_of

    delivery_add(connection=connection, request=provider_of("github").delivery_request(connection, "1"))
    assert reconcile() == 0
    (only,) = delivery_list("github").deliveries
    assert int(only.repetitions) == 0


def test_after_a_failure_the_same_span_is_asked_for_again(provider: FakeProvider) -> None:
    app_connection(provider).save()
    provider.deliver("push", push("b"), guid="one", lost=True)
    provider.deliver("push", push("c"), guid="two", lost=True)
    # The second one cannot be had.
    provider.disturb("fail", path="/app/hook/deliveries/2$")
    assert reconcile() == 0
    assert arrived() == ["one"]
    assert Connection.get("default", "github").reconciled_until is None
    # Half an hour without an answer.
    for minutes in (6, 12, 18):
        provider.disturb("secondary", seconds=30)
        with later(minutes):
            assert reconcile() == 0
    with later(30):
        assert reconcile() == 1
        assert arrived() == ["one", "two"]
        assert Connection.get("default", "github").reconciled_until is not None


def test_what_is_older_than_github_keeps_is_not_asked_for(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    connection.created_at = clock.timestamp(clock.now() - timedelta(days=30))
    connection.save()
    with clock.shifted(timedelta(days=-3, minutes=-1)):
        provider.deliver("push", push("b"), guid="old", lost=True)
    with clock.shifted(timedelta(days=-2)):
        provider.deliver("push", push("c"), guid="new", lost=True)
    assert reconcile() == 1
    assert arrived() == ["new"]


def test_only_apps_are_asked(provider: FakeProvider) -> None:
    connection_of(provider, token="a-users-token").save()
    connection_of(provider, "gitlab", token="a-users-token").save()
    assert reconcile() == 0
    assert provider.asked == []


def test_one_process_asks_at_a_time(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.sources.services import missed_deliveries

    stored = app_connection(provider)
    stored.save()
    # Another process has begun since this one has read the connection.
    seen = Connection.get("default", "github")
    stored.update([Connection.reconcile_began_at.set(clock.timestamp(clock.now()))])
    monkeypatch.setattr(missed_deliveries, "connection_list", lambda _provider: [seen])
    assert reconcile() == 0
    assert provider.asked == []


def test_a_connection_that_is_deleted_meanwhile_stays_deleted(provider: FakeProvider) -> None:
    connection = app_connection(provider)
    connection.save()

    def delete(_asked: object) -> None:
        if Connection.find("default", "github"):
            Connection.get("default", "github").delete()

    provider.before = delete
    assert reconcile() == 0
    assert Connection.find("default", "github") is None
