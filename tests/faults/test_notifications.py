"""DynamoDB fails while targets and rules are made and changed, and while ends of runs are announced."""

from datetime import timedelta
from functools import partial

import pytest
from django.test import override_settings

from apps.jobs.models import FIRST_NODE
from apps.jobs.selectors import job_get
from apps.jobs.services import AttemptResult, JobPlace, attempt_finish
from apps.notifications.models import OutboxItem
from apps.notifications.selectors.deliveries import delivery_list
from apps.notifications.selectors.outbox import failed_items, outbox_due
from apps.notifications.services import (
    delivery_redeliver,
    delivery_send,
    outbox_retry,
    outbox_run,
    rule_change,
    rule_create,
    rule_delete,
    target_change,
    target_create,
    target_delete,
    target_secret_rotate,
    target_test,
)
from apps.notifications.states import TargetKind
from controlplane.lib import clock
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.notifications.conftest import happen
from tests.notifications.test_announcing import ended
from tests.notifications.test_outbox_work import add

mailing = override_settings(EMAIL_URL="smtp://mail.example.com")
scenario = Scenarios(prepared_once=True)


def _target() -> str:
    made = target_create(actor=ADMIN, name="team", kind=TargetKind.WEBHOOK, url="https://hooks.example.com/")[0]
    return str(made.target_id)


def _mailing() -> str:
    """The id of an e-mail target that hears of failures."""
    emails = ["ada@example.com"]
    target_id = str(target_create(actor=ADMIN, name="mail", kind=TargetKind.EMAIL, emails=emails)[0].target_id)
    _rule(target_id)
    return target_id


def _rule(target_id: str) -> str:
    return str(rule_create(actor=ADMIN, target_id=target_id, occasions=["failed"]).rule_id)


def _new_items() -> list[OutboxItem]:
    return [item for shard in range(4) for item in outbox_due(shard, clock.now())[1]]


@scenario(repeatable=False)
def create_a_target(_: World) -> Act:
    return _target


@scenario()
def change_a_target(_: World) -> Act:
    return partial(target_change, actor=ADMIN, target_id=_target(), name="others")


@scenario(repeatable=False)
def replace_a_secret(_: World) -> Act:
    return partial(target_secret_rotate, actor=ADMIN, target_id=_target())


@scenario("notification_target_not_found")
def delete_a_target(_: World) -> Act:
    target_id = _target()
    _rule(target_id)
    return partial(target_delete, actor=ADMIN, target_id=target_id)


@scenario(repeatable=False)
def try_a_target(_: World) -> Act:
    return partial(target_test, actor=ADMIN, target_id=_mailing())


@scenario(repeatable=False)
def create_a_rule(_: World) -> Act:
    return partial(_rule, _target())


@scenario()
def change_a_rule(_: World) -> Act:
    return partial(rule_change, actor=ADMIN, rule_id=_rule(_target()), branches=["main"])


@scenario("notification_rule_not_found")
def delete_a_rule(_: World) -> Act:
    return partial(rule_delete, actor=ADMIN, rule_id=_rule(_target()))


@scenario()
def end_a_run_that_is_told(world: World) -> Act:
    _mailing()
    job_id = world.running()
    place = JobPlace(str(job_get(job_id).run_id), FIRST_NODE)
    result = AttemptResult(exit_code=1, error_message=None, steps=[], log_chunks=0, commit="c0ffee", place=place)
    return partial(attempt_finish, agent=world.agent, job_id=job_id, attempt=1, result=result)


@scenario()
def announce_the_end_of_a_run(_: World) -> Act:
    _mailing()
    return partial(ended, "failed", run_id="01m8dvrt5s6h441vyz0gpr7v4c", number=1)


@scenario()
def send_a_message(_: World) -> Act:
    _mailing()
    happen()
    (item,) = _new_items()
    return mailing(partial(delivery_send, item))


@scenario(repeatable=False)
def send_a_message_again(_: World) -> Act:
    _mailing()
    happen()
    return partial(delivery_redeliver, actor=ADMIN, delivery_id=str(delivery_list().deliveries[0].delivery_id))


@scenario("outbox_item_not_found")
def try_a_failed_item_again(_: World) -> Act:
    add("poison", 1)
    for hours in (0, 25):
        with clock.shifted(timedelta(hours=hours)):
            outbox_run({}, seconds=5)
            failed = list(failed_items(clock.now()))
    return partial(outbox_retry, actor=ADMIN, item_id=str(failed[0].entry))


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
