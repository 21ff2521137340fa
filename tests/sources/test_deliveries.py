"""What connections have delivered: lists with the reason, repetitions, and "redeliver"."""

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.services import event_work
from apps.jobs.services.event_starts import event_redeliver
from apps.sources.models import Delivery
from apps.sources.providers.interface import WebhookRequest
from apps.sources.selectors import connection_get, delivery_find, delivery_list
from apps.sources.services import delivery_add, delivery_redeliver
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.jobs.test_event_starts import deliver, runs, worked
from tests.metering import dynamodb_calls
from tests.sources.hooks import B, C, bound, connected, github_push, send

VIEWER = Actor("user", "01kaviewer0000000000000000", "viewer", frozenset({"pipelines.read"}))


def failed(settings: Any) -> Delivery:
    """An event whose run could not be started."""
    connected()
    bound()
    settings.ALLOWED_REPOSITORIES = ["git.example.com/*"]
    delivery = worked(github_push())
    settings.ALLOWED_REPOSITORIES = []
    return delivery


def test_failed_events_stand_in_a_list_with_the_reason_and_redeliver(
    operator: Client, tables: None, settings: Any
) -> None:
    delivery = failed(settings)
    worked(github_push(after=C))
    path = "/connections/hub/events"
    (listed,) = operator.get(f"{path}?troubled=true").json()["events"]
    assert (listed["event_id"], listed["state"], listed["summary"]) == (delivery.event_id, "failed", "push to main")
    assert "ALLOWED_REPOSITORIES" in listed["reason"]
    assert len(operator.get(path).json()["events"]) == 2
    answer = operator.post(f"{path}/{delivery.event_id}/redeliver")
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert operator.get(f"{path}?troubled=true").json()["events"] == []
    shown = operator.get(f"{path}/{delivery.event_id}").json()
    assert [one["pipeline"] for one in shown["results"]] == ["web"]
    assert len(runs()) == 2
    (event,) = audit_search(action=Action.CONNECTION_EVENT_REDELIVERED).records
    assert (event.target, event.detail["event"]) == ("connection:hub", delivery.event_id)


def test_redelivering_what_is_done_starts_another_run_and_keeps_its_place(tables: None) -> None:
    connected()
    bound()
    first = worked(github_push())
    with clock.shifted(timedelta(hours=1)):
        again = event_redeliver(actor=OPERATOR, connection_id="hub", event_id=str(first.event_id))
        assert (again.state, again.received_at, len(runs())) == ("done", first.received_at, 2)
        assert runs()[0].created_at > runs()[1].created_at


@pytest.mark.nightly
def test_two_users_who_redeliver_at_once_start_one_run_in_each_order(
    tables: None, emulator: str, settings: Any
) -> None:
    delivery = failed(settings)
    prepared = items_read(emulator)
    again = partial(event_redeliver, actor=OPERATOR, connection_id="hub", event_id=str(delivery.event_id))
    for order in every_order():
        items_replace(emulator, prepared)
        cache.clear()
        order.race(again, again)
        # Who comes after the other has finished asks for another one.
        assert len(runs()) in (1, 2)
        assert delivery_find(str(delivery.event_id)).state == "done"


def test_an_event_of_which_nothing_could_be_read_is_not_redelivered(server: str, operator: Client) -> None:
    connected()
    send(server, [], delivery="x")  # type: ignore[arg-type]
    (refused,) = delivery_list("hub", troubled=True).deliveries
    answer = operator.post(f"/connections/hub/events/{refused.event_id}/redeliver")
    problem(answer, 409, "delivery_unreadable")
    send(server, github_push(), delivery="x")
    assert delivery_find(str(refused.event_id)).state == "done"


def test_a_repeated_delivery_of_a_failed_event_begins_anew(tables: None, settings: Any) -> None:
    delivery = failed(settings)
    again = worked(github_push())
    assert (again.event_id, again.state, int(again.generation), int(again.repetitions)) == (
        delivery.event_id,
        "done",
        1,
        1,
    )
    assert len(runs()) == 1


def test_an_event_is_that_of_its_connection_alone(operator: Client, tables: None) -> None:
    connected()
    connected("other")
    event_id = deliver(github_push())
    problem(operator.get(f"/connections/other/events/{event_id}"), 404, "delivery_not_found")
    problem(operator.get("/connections/gone/events"), 404, "connection_not_found")
    with pytest.raises(Forbidden):
        delivery_redeliver(actor=VIEWER, connection_id="hub", event_id=event_id)


def test_a_delivery_is_one_read_and_one_write(tables: None) -> None:
    connected()
    with dynamodb_calls() as calls:
        deliver(github_push())
    assert calls.operations == ["Query", "PutItem"]


def test_what_we_fetch_from_the_provider_ourselves_needs_no_signature(tables: None) -> None:
    connected()
    bound()
    headers = {"x-github-event": "push", "x-github-delivery": "missed"}
    added = delivery_add(
        connection=connection_get("hub"), request=WebhookRequest(headers, json.dumps(github_push()).encode())
    )
    event_work(str(added.event_id), seconds=60)
    assert runs()[0].commit == B


def test_deliveries_are_listed_by_pages_over_days_and_expire(tables: None) -> None:
    connected()
    for day in range(3):
        with clock.shifted(timedelta(days=day)):
            worked(github_push(), delivery=f"d{day}")
    with clock.shifted(timedelta(days=3)):
        first = delivery_list("hub", limit=2)
        rest = delivery_list("hub", limit=2, cursor=first.next_cursor)
        found = [*first.deliveries, *rest.deliveries]
        assert [one.delivery_id for one in found] == ["d2", "d1", "d0"]
    with clock.shifted(timedelta(days=40)):
        assert delivery_list("hub").deliveries == []
    assert Delivery.get(found[0].event_id).expires_at - clock.now() > timedelta(days=31)


def test_a_conflict_says_what_to_do(tables: None) -> None:
    connected()
    event_id = deliver({"zen": "x"}, "ping")
    with pytest.raises(Conflict, match="from the provider's page"):
        delivery_redeliver(actor=ADMIN, connection_id="hub", event_id=event_id)
