"""Notifications in the admin."""

import re
from datetime import timedelta

import pytest

from apps.notifications.selectors.deliveries import delivery_list
from apps.notifications.selectors.targets import rule_list, target_address, target_get, target_list
from apps.notifications.services import outbox_run
from controlplane.lib import clock
from tests.admin.conftest import Browser, errors, form_values, rows
from tests.notifications.conftest import happen, rule_made, sweep, target_made
from tests.notifications.test_outbox_work import add
from tests.webhooks import Receiver

AREA = "/admin/notifications"


def deleted(browser: Browser, place: str) -> None:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.page(f"{place}delete/"))
    browser.post(f"{place}delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})


def test_a_target_is_added_changed_tested_and_deleted_and_its_address_is_never_shown(
    operator: Browser, hook: Receiver
) -> None:
    answer = operator.send(f"{AREA}/target/add/", name="team", kind="webhook", url=f"{hook.url}/s3cr3t", emails="")
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.text)[0]
    (target,) = target_list()
    target_id = str(target.target_id)
    assert target_address(target).secrets == [secret]
    place = f"{AREA}/target/{target_id}/change/"
    for page in (operator.page(f"{AREA}/target/"), operator.page(place)):
        assert "s3cr3t" not in page
        assert secret not in page
        assert str(target.encrypted) not in page
    operator.send(place, name="others")
    assert target_address(target_get(target_id)).url == f"{hook.url}/s3cr3t"
    assert target_get(target_id).name == "others"
    operator.act(f"{AREA}/target/", "test", target_id)
    assert len(hook.requests) == 1
    assert "notification target changed" in operator.page(f"{AREA}/target/{target_id}/history/")
    deleted(operator, f"{AREA}/target/{target_id}/")
    assert target_list() == []


def test_a_rule_is_added_changed_and_deleted(operator: Browser, hook: Receiver) -> None:
    target_id = str(target_made(hook).target_id)
    fields = {"target_id": target_id, "occasions": "failed, fixed", "pipelines": "", "branches": "main"}
    operator.send(f"{AREA}/rule/add/", **fields)
    (rule,) = rule_list()
    assert "failed, fixed" in rows(operator.page(f"{AREA}/rule/"))[0]
    operator.send(f"{AREA}/rule/{rule.rule_id}/change/", branches="")
    assert rule_list()[0].branches == []
    assert "must be one or several of" in errors(
        operator.send(f"{AREA}/rule/add/", **fields | {"occasions": "never"}).text
    )
    deleted(operator, f"{AREA}/rule/{rule.rule_id}/")
    assert rule_list() == []


def test_a_rule_is_for_a_target_that_is_chosen_and_listed_by_its_name(operator: Browser, hook: Receiver) -> None:
    target = target_made(hook)
    other = target_made(hook, path="/others")
    page = operator.page(f"{AREA}/rule/add/")
    assert f'<option value="{target.target_id}">{target.name} (webhook)</option>' in page
    fields = {"target_id": str(other.target_id), "occasions": "failed", "pipelines": "", "branches": ""}
    unknown = operator.send(f"{AREA}/rule/add/", **fields | {"target_id": "01kaadmin00000000000000000"})
    assert "is not one of the available choices" in errors(unknown.text)
    operator.send(f"{AREA}/rule/add/", **fields)
    (rule,) = rule_list()
    (row,) = rows(operator.page(f"{AREA}/rule/"))
    assert "/others" in row
    assert str(other.target_id) not in row
    assert form_values(operator.page(f"{AREA}/rule/{rule.rule_id}/change/"))["target_id"] == other.target_id


def test_deliveries_are_shown_with_their_attempts_and_sent_again(operator: Browser, hook: Receiver) -> None:
    target = target_made(hook)
    rule_made(target)
    happen()
    sweep()
    (delivery,) = delivery_list().deliveries
    for path in (f"{AREA}/delivery/", f"{AREA}/delivery/?q={target.target_id}"):
        assert "Failed: self on main" in rows(operator.page(path))[0]
    assert "accepted" in operator.page(f"{AREA}/delivery/{delivery.delivery_id}/change/")
    operator.act(f"{AREA}/delivery/", "redeliver", str(delivery.delivery_id))
    assert len(delivery_list().deliveries) == 2


@pytest.mark.usefixtures("tables")
def test_what_could_not_be_done_is_shown_and_tried_again(operator: Browser) -> None:
    add("run:self:main", 1)
    for hours in (0, 25):
        with clock.shifted(timedelta(hours=hours)):
            outbox_run({}, seconds=5)
    page = operator.page(f"{AREA}/outboxitem/")
    assert "run:self:main" in rows(page)[0]
    key = re.search(r'name="_selected_action" value="([^"]+)"', page)[1]
    assert "an error in this program" in operator.page(f"{AREA}/outboxitem/{key}/change/")
    operator.act(f"{AREA}/outboxitem/", "retry", key)
    assert rows(operator.page(f"{AREA}/outboxitem/")) == []
