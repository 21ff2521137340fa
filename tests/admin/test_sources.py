"""Connections and deliveries in the admin."""

import re
from datetime import timedelta
from html import unescape

import pytest

from apps.sources.models import Delivery
from apps.sources.selectors import connection_get, connection_list, delivery_months
from controlplane.lib import clock
from tests.admin.conftest import Browser, errors, rows
from tests.jobs.test_event_starts import runs, worked
from tests.sources.hooks import SECRET, bound, connected, github_push

CONNECTIONS = "/admin/sources/connection/"
DELIVERIES = "/admin/sources/delivery/"


def test_a_connection_is_changed_and_deleted_and_shows_no_secret(admin: Browser) -> None:
    connected("forge", "gitea")
    assert "/webhooks/gitea/forge" in rows(admin.page(CONNECTIONS))[0]
    change = f"{CONNECTIONS}forge/change/"
    admin.send(change, name="Our forge", api_url="https://git.example.com/api/v1", token="a token of it")
    assert (connection_get("forge").name, connection_get("forge").secret("token")) == ("Our forge", "a token of it")
    page = admin.page(change)
    assert "a token of it" not in page
    assert SECRET not in page
    admin.send(change, name="Our forge", api_url="https://git.example.com/api/v1", token="")
    assert connection_get("forge").secret("token") == "a token of it"
    assert "must be an https URL" in errors(admin.send(change, name="x", api_url="nonsense").text)
    assert "connection changed" in admin.page(f"{CONNECTIONS}forge/history/")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', admin.page(f"{CONNECTIONS}forge/delete/"))
    admin.post(f"{CONNECTIONS}forge/delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})
    assert connection_list() == []


def test_deliveries_are_listed_and_redelivered(operator: Browser) -> None:
    connected()
    bound()
    delivery = worked(github_push())
    (row,) = rows(operator.page(DELIVERIES))
    assert ("push to main" in row, "done" in row) == (True, True)
    assert rows(operator.page(f"{DELIVERIES}?q=other")) == []
    page = operator.page(f"{DELIVERIES}{delivery.event_id}/change/")
    assert str(runs()[0].run_id) in page
    operator.act(DELIVERIES, "redeliver", str(delivery.event_id))
    assert Delivery.get(delivery.event_id).state == "pending"


def test_the_pages_have_the_deliveries_of_all_connections_once(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.sources.admin.DeliveryAdmin.list_per_page", 2)
    for name in ("a-forge", "z-forge"):
        connected(name, "gitea")
        for number in range(3):
            moment = clock.timestamp(clock.now())
            Delivery(
                f"{name}-{number}",
                connection_id=name,
                provider="gitea",
                delivery_id=str(number),
                kind="push",
                events=[],
                summary=f"{name}-{number}",
                state="done",
                month=delivery_months(name)[0],
                received_at=moment,
                accepted_at=moment,
                expires_at=timedelta(days=30),
            ).save()
    found: list[str] = []
    path = DELIVERIES
    while path and len(found) < 9:
        page = operator.page(path)
        found += [row.split()[0] for row in rows(page)]
        more = re.search(r'href="(\?p=[^"]+)"[^>]*rel="next"', page)
        path = DELIVERIES + unescape(more[1]) if more else ""
    assert found == [f"{name}-{number}" for name in ("z-forge", "a-forge") for number in (2, 1, 0)]


@pytest.mark.parametrize("path", [f"{CONNECTIONS}add/", f"{DELIVERIES}add/"])
def test_nothing_is_added_here(admin: Browser, path: str) -> None:
    assert admin.get(path).status_code == 403
