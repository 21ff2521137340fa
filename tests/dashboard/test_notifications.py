"""The pages of notifications."""

import re
from datetime import timedelta

import pytest

from apps.notifications.selectors.deliveries import delivery_list
from apps.notifications.selectors.targets import rule_list, target_address, target_get, target_list
from apps.notifications.services import outbox_run
from controlplane.lib import clock
from tests.clients import Client
from tests.dashboard.test_pipelines import errors_of, send
from tests.dashboard.test_tests import words
from tests.notifications.conftest import happen, sweep
from tests.notifications.test_outbox_work import add
from tests.webhooks import Receiver

INDEX = "/dashboard/notifications"


def added(operator: Client, hook: Receiver, **members: str) -> tuple[str, str]:
    """A webhook that is added by the form. Its id, and the page that follows."""
    status, page = send(
        operator, "notifications/new-target", **{"name": "team", "kind": "webhook", "url": hook.url, **members}
    )
    assert status == 200
    return str(target_list()[0].target_id), page


def test_a_target_is_added_with_a_secret_that_is_shown_once(operator: Client, hook: Receiver) -> None:
    assert "No targets yet" in operator.get(INDEX).text
    target_id, page = added(operator, hook)
    secret = re.search(r'id="secret">(whsec_[^<]+)<', page)[1]
    assert target_address(target_get(target_id)).secrets == [secret]
    shown = operator.get(f"{INDEX}/targets/{target_id}").text
    assert secret not in shown
    assert hook.url not in shown
    status, page = send(operator, f"notifications/targets/{target_id}/secret", overlap_hours="2")
    fresh = re.search(r'id="secret">(whsec_[^<]+)<', page)[1]
    assert (status, target_address(target_get(target_id)).secrets) == (200, [fresh, secret])
    assert "signature by the old secret" in words(page)


def test_a_target_is_changed_tested_and_deleted(operator: Client, hook: Receiver) -> None:
    target_id, _ = added(operator, hook)
    place, path = f"{INDEX}/targets/{target_id}", f"notifications/targets/{target_id}"
    assert send(operator, path, name="others", url="", emails="") == (302, place)
    assert target_address(target_get(target_id)).url == hook.url
    hook.answer = lambda _request: (503, {})
    assert send(operator, f"{path}/test") == (302, place)
    page = words(operator.get(place).text)
    assert "The test did not arrive: it answers with 503." in page
    assert "It has failed since" in page
    hook.answer = lambda _request: (204, {})
    send(operator, f"{path}/test")
    assert "The test arrived at others." in words(operator.get(place).text)
    assert send(operator, f"{path}/delete") == (302, INDEX)
    assert target_list() == []


def test_a_rule_is_added_changed_and_deleted(operator: Client, hook: Receiver) -> None:
    target_id, _ = added(operator, hook)
    rule: dict[str, str | list[str]] = {
        "target_id": target_id,
        "occasions": ["failed", "fixed"],
        "pipelines": "api-*\n web \n",
        "branches": "",
    }
    assert send(operator, "notifications/new-rule", **rule) == (302, INDEX)
    (made,) = rule_list()
    assert (made.pipelines, made.branches, made.occasions) == (["api-*", "web"], [], ["failed", "fixed"])
    assert "api-*" in operator.get(INDEX).text
    path = f"notifications/rules/{made.rule_id}"
    assert 'value="failed"' in operator.get(f"/dashboard/{path}").text
    assert send(operator, path, **rule | {"branches": "main"}) == (302, INDEX)
    assert rule_list()[0].branches == ["main"]
    assert send(operator, f"{path}/delete") == (302, INDEX)
    assert rule_list() == []


def test_deliveries_are_listed_with_their_attempts_and_sent_again(operator: Client, hook: Receiver) -> None:
    target_id, _ = added(operator, hook)
    send(operator, "notifications/new-rule", target_id=target_id, occasions=["failed"])
    hook.content = b"<b>busy</b>"
    hook.answer = lambda _request: (503, {})
    happen()
    sweep()
    (delivery,) = delivery_list().deliveries
    for listed in (
        INDEX,
        f"{INDEX}/deliveries",
        f"{INDEX}/deliveries?target={target_id}",
        f"{INDEX}/targets/{target_id}",
    ):
        page = operator.get(listed).text
        assert f"{INDEX}/deliveries/{delivery.delivery_id}" in page
        assert "Retrying" in words(page)
    page = operator.get(f"{INDEX}/deliveries/{delivery.delivery_id}").text
    assert "it answers with 503" in page
    assert "&lt;b&gt;busy&lt;/b&gt;" in page
    status, place = send(operator, f"notifications/deliveries/{delivery.delivery_id}/redeliver")
    assert status == 302
    assert "for Operator" in words(operator.get(place).text)


def test_what_could_not_be_done_is_shown_and_tried_again(operator: Client, tables: None) -> None:
    add("run:self:main", 1)
    for hours in (0, 25):
        with clock.shifted(timedelta(hours=hours)):
            outbox_run({}, seconds=5)
    page = operator.get(INDEX).text
    assert "an error in this program: KeyError" in page
    retry = re.search(r'action="/dashboard/(notifications/failed/[^"]+)"', page)[1]
    assert send(operator, retry) == (302, INDEX)
    assert "Could not be done" not in operator.get(INDEX).text


@pytest.mark.parametrize(
    ("members", "field", "message"),
    [
        ({"url": "https://10.0.0.1/"}, "url", "is not a public address"),
        ({"kind": "email", "emails": "no address"}, "emails", "must be e-mail addresses"),
        ({"name": ""}, "name", "This field is required"),
    ],
)
def test_a_mistake_is_shown_at_its_field(
    operator: Client, hook: Receiver, members: dict[str, str], field: str, message: str
) -> None:
    status, page = send(
        operator, "notifications/new-target", **{"name": "team", "kind": "slack", "url": hook.url, **members}
    )
    assert (status, message in errors_of(page, field)) == (422, True)
    assert target_list() == []


def test_a_rule_without_an_occasion_is_refused(operator: Client, hook: Receiver) -> None:
    target_id, _ = added(operator, hook)
    status, page = send(operator, "notifications/new-rule", target_id=target_id, branches="main")
    assert (status, "This field is required" in page) == (422, True)
