"""Rules: which target hears of what."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.notifications.selectors.targets import rule_get, rule_list, rules_any
from apps.notifications.services import rule_change, rule_create, rule_delete, target_delete
from apps.notifications.services import rules as rules_module
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.conftest import OPERATOR
from tests.interleaving import every_order
from tests.metering import dynamodb_calls
from tests.notifications.test_deliveries import VIEWER
from tests.notifications.test_targets import made

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture
def target_id(tables: None) -> str:
    return str(made().target_id)


def test_a_rule_is_made_changed_and_deleted(target_id: str) -> None:
    rule = rule_create(actor=OPERATOR, target_id=target_id, occasions=["fixed", "failed"], branches=["main"])
    rule_id = str(rule.rule_id)
    assert (rule.occasions, rule.pipelines, rule.branches) == (["failed", "fixed"], [], ["main"])
    assert rule_change(actor=OPERATOR, rule_id=rule_id, occasions=["failed", "fixed"]).revision == 1
    changed = rule_change(actor=OPERATOR, rule_id=rule_id, pipelines=["api-*"], revision=1)
    assert (changed.pipelines, changed.branches, changed.revision) == (["api-*"], ["main"], 2)
    (event,) = audit_search(action=Action.NOTIFICATION_RULE_CHANGED).records
    assert event.detail == {"pipelines": "none → api-*"}
    with pytest.raises(Conflict):
        rule_change(actor=OPERATOR, rule_id=rule_id, branches=[], revision=1)
    rule_delete(actor=OPERATOR, rule_id=rule_id)
    with pytest.raises(NotFound):
        rule_delete(actor=OPERATOR, rule_id=rule_id)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"occasions": []}, "occasions"),
        ({"occasions": ["failed", "sometimes"]}, "occasions"),
        ({"pipelines": [""]}, "pipelines"),
        ({"branches": ["x" * 256]}, "branches"),
        ({"branches": ["two\nlines"]}, "branches"),
        ({"branches": ["x"] * 21}, "branches"),
        ({"target_id": "01kanobody000000000000000"}, "target_id"),
    ],
)
def test_what_is_no_rule_is_refused_by_its_field(target_id: str, members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rule_create(actor=OPERATOR, **{"target_id": target_id, "occasions": ["failed"], **members})
    assert refused.value.errors[0]["field"] == field
    assert rule_list() == []


def test_no_rule_is_left_of_a_target_that_is_deleted_at_the_same_moment() -> None:
    """But for one that was made after the deletion had read them: it announces nothing, and can be deleted."""
    for order in every_order():
        target_id = str(made().target_id)
        made_rule, deleted = order.race(
            partial(rule_create, actor=OPERATOR, target_id=target_id, occasions=["failed"]),
            partial(target_delete, actor=OPERATOR, target_id=target_id),
        )
        assert deleted is None
        if made_rule == "invalid_input":
            assert rule_list() == []
        for rule in rule_list():
            rule_delete(actor=OPERATOR, rule_id=str(rule.rule_id))


def test_there_is_a_limit_to_rules(target_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "MAX_OF_TARGET", 1)
    rule_create(actor=OPERATOR, target_id=target_id, occasions=["failed"])
    with pytest.raises(Conflict):
        rule_create(actor=OPERATOR, target_id=target_id, occasions=["failed"])


def test_a_process_remembers_for_seconds_which_pipelines_have_rules(target_id: str) -> None:
    assert not rules_any("self")
    with dynamodb_calls() as metering:
        assert not rules_any("self")
    assert metering.calls == 0
    rule = rule_create(actor=OPERATOR, target_id=target_id, occasions=["failed"], pipelines=["se*"])
    assert (rules_any("self"), rules_any("other")) == (True, False)
    rule_delete(actor=OPERATOR, rule_id=str(rule.rule_id))
    assert not rules_any("self")


def test_viewers_change_no_rule(target_id: str) -> None:
    rule_id = str(rule_create(actor=OPERATOR, target_id=target_id, occasions=["failed"]).rule_id)
    acts: list[Callable[[], object]] = [
        lambda: rule_create(actor=VIEWER, target_id=target_id, occasions=["failed"]),
        lambda: rule_change(actor=VIEWER, rule_id=rule_id, branches=["x"]),
        lambda: rule_delete(actor=VIEWER, rule_id=rule_id),
    ]
    for act in acts:
        with pytest.raises(Forbidden):
            act()
    assert rule_get(rule_id).branches == []
