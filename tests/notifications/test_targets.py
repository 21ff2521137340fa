"""Targets: their addresses and secrets are encrypted, shown once or never, and rotated with an overlap."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.notifications.models import Target
from apps.notifications.selectors.targets import rule_list, target_address, target_get, target_list
from apps.notifications.services import rule_create, target_change, target_create, target_delete, target_secret_rotate
from apps.notifications.services import targets as targets_module
from apps.notifications.states import TargetKind
from controlplane.lib import clock
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read
from tests.interleaving import every_order
from tests.notifications.test_deliveries import VIEWER
from tests.properties.consistency import emulator_url

pytestmark = pytest.mark.usefixtures("tables")
URL = "https://hooks.example.com/services/T0/s3cr3t-part"


def made(kind: TargetKind = TargetKind.SLACK, **members: Any) -> Target:
    given = {"url": URL, **members} if kind != TargetKind.EMAIL else members
    return target_create(actor=OPERATOR, name="team", kind=kind, **given)[0]


def test_the_address_and_the_secrets_are_nowhere_but_encrypted() -> None:
    target, secret = target_create(actor=OPERATOR, name="team", kind=TargetKind.WEBHOOK, url=URL)
    target_id = str(target.target_id)
    target_change(actor=OPERATOR, target_id=target_id, url=f"{URL}-2")
    _, fresh = target_secret_rotate(actor=OPERATOR, target_id=target_id)
    stored = items_read(emulator_url()).decode()
    assert target_address(target_get(target_id)).secrets == [fresh, secret]
    for hidden in ("s3cr3t-part", secret, fresh):
        assert str(hidden) not in stored
    assert "hooks.example.com" in stored


def test_an_encrypted_address_opens_for_no_other_target() -> None:
    first, second = made(), made()
    second.update([Target.encrypted.set(first.encrypted)])
    with pytest.raises(DecryptionFailed):
        target_address(target_get(str(second.target_id)))


def test_messages_have_two_signatures_while_the_secrets_overlap() -> None:
    target_id = str(made(TargetKind.WEBHOOK).target_id)
    _, first = target_secret_rotate(actor=OPERATOR, target_id=target_id, overlap_hours=24)
    _, second = target_secret_rotate(actor=OPERATOR, target_id=target_id, overlap_hours=2)
    assert target_address(target_get(target_id)).secrets == [second, first]
    with clock.shifted(timedelta(hours=2)):
        assert target_address(target_get(target_id)).secrets == [second]
    _, third = target_secret_rotate(actor=OPERATOR, target_id=target_id, overlap_hours=0)
    assert target_address(target_get(target_id)).secrets == [third]


def test_a_receiver_may_bring_its_own_secret() -> None:
    own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    _, secret = target_create(actor=OPERATOR, name="own", kind=TargetKind.WEBHOOK, url=URL, secret=own)
    assert secret == own


@pytest.mark.parametrize(
    ("kind", "members", "field"),
    [
        (TargetKind.WEBHOOK, {"url": "http://hooks.example.com/"}, "url"),
        (TargetKind.WEBHOOK, {"url": ""}, "url"),
        (TargetKind.SLACK, {"url": "https://10.0.0.1/hook"}, "url"),
        (TargetKind.SLACK, {"url": "https://[::ffff:127.0.0.1]/hook"}, "url"),
        (TargetKind.TEAMS, {"url": "https://169.254.169.254/latest"}, "url"),
        (TargetKind.TEAMS, {"url": "https://user:password@example.com/"}, "url"),
        (TargetKind.TEAMS, {"url": "https://example.com/\r\nX-One: 1"}, "url"),
        (TargetKind.WEBHOOK, {"secret": "whsec_short"}, "secret"),
        (TargetKind.EMAIL, {"emails": []}, "emails"),
        (TargetKind.EMAIL, {"emails": ["ada@example.com\nBcc: eve@example.com"]}, "emails"),
        (TargetKind.EMAIL, {"emails": ["Ada <ada@example.com>"]}, "emails"),
        (TargetKind.EMAIL, {"emails": ["a@example.com"] * 21}, "emails"),
    ],
)
def test_an_address_that_may_not_be_requested_or_ends_a_header_is_refused(
    kind: TargetKind, members: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        made(kind, **members)
    assert [error["field"] for error in refused.value.errors] == [field]
    assert target_list() == []


def test_a_change_is_recorded_without_the_address() -> None:
    target_id = str(made().target_id)
    unchanged = target_change(actor=OPERATOR, target_id=target_id, name="team", url=URL)
    assert unchanged.revision == 1
    changed = target_change(actor=ADMIN, target_id=target_id, name="others", url=f"{URL}-2", revision=1)
    assert (changed.name, changed.revision, changed.changed_by) == ("others", 2, "admin")
    (event,) = audit_search(action=Action.NOTIFICATION_TARGET_CHANGED).records
    assert event.detail == {"name": "team → others", "address": "changed"}
    with pytest.raises(Conflict):
        target_change(actor=ADMIN, target_id=target_id, name="late", revision=1)


def test_a_change_meanwhile_is_not_overwritten() -> None:
    for order in every_order():
        target_id = str(made().target_id)
        change = partial(target_change, actor=OPERATOR, target_id=target_id, revision=1)
        outcomes = order.race(partial(change, name="first"), partial(change, name="second"))
        assert "changed_meanwhile" in outcomes
        (changed,) = (outcome for outcome in outcomes if isinstance(outcome, Target))
        assert changed.name == target_get(target_id).name


def test_only_a_webhook_has_a_secret_to_rotate() -> None:
    for kind, members in ((TargetKind.SLACK, {}), (TargetKind.EMAIL, {"emails": ["ada@example.com"]})):
        target, secret = made(kind, **members), None
        assert secret is None
        with pytest.raises(Conflict):
            target_secret_rotate(actor=OPERATOR, target_id=str(target.target_id))
    with pytest.raises(InvalidInput):
        target_secret_rotate(actor=OPERATOR, target_id=str(target.target_id), overlap_hours=169)


def test_a_target_is_deleted_with_its_rules() -> None:
    target, other = made(), made()
    for one in (target, other):
        rule_create(actor=OPERATOR, target_id=str(one.target_id), occasions=["failed"])
    target_delete(actor=OPERATOR, target_id=str(target.target_id))
    assert [rule.target_id for rule in rule_list()] == [other.target_id]
    with pytest.raises(NotFound):
        target_delete(actor=OPERATOR, target_id=str(target.target_id))


def test_there_is_a_limit_to_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_module, "MAX_TARGETS", 1)
    made()
    with pytest.raises(Conflict):
        made()


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "two\nlines"])
def test_a_name_is_one_line(name: str) -> None:
    with pytest.raises(InvalidInput):
        target_create(actor=OPERATOR, name=name, kind=TargetKind.SLACK, url=URL)


def test_viewers_change_no_target() -> None:
    target_id = str(made().target_id)
    for act in (
        lambda: target_create(actor=VIEWER, name="x", kind=TargetKind.SLACK, url=URL),
        lambda: target_change(actor=VIEWER, target_id=target_id, name="x"),
        lambda: target_secret_rotate(actor=VIEWER, target_id=target_id),
        lambda: target_delete(actor=VIEWER, target_id=target_id),
    ):
        with pytest.raises(Forbidden):
            act()
    assert target_get(target_id).name == "team"
