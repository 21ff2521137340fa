"""DynamoDB fails while secrets are created, changed, rotated and given to jobs."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from apps.jobs.models import Job
from apps.jobs.services import Channel, start_secrets
from apps.secrets.selectors import secret_get
from apps.secrets.services import (
    secret_change,
    secret_create,
    secret_delete,
    secret_set,
    version_activate_add,
    version_add,
    version_retire,
    version_revert,
)
from apps.secrets.services.deliveries import Attempt, delivery_refuse
from apps.secrets.states import Recipient
from controlplane.nosql.transaction import Transaction
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World

ID = "PYPI_TOKEN"
KEY = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()

scenario = Scenarios(prepared_once=True)


def _made() -> None:
    secret_create(actor=ADMIN, name=ID, value="the first value")


def _pending() -> int:
    _made()
    return version_add(actor=ADMIN, secret_id=ID, value="the second value", rotation_id="rotation")


def _activate() -> None:
    tx = Transaction()
    version_activate_add(tx, actor=ADMIN, secret=secret_get(ID))
    tx.commit()


@scenario("name_taken")
def create_a_secret(_: World) -> Act:
    return _made


@scenario()
def set_a_secret(_: World) -> Act:
    _made()
    return lambda: secret_set(actor=ADMIN, secret_id=ID, value="the second value")


@scenario()
def change_a_secret(_: World) -> Act:
    _made()
    return lambda: secret_change(actor=ADMIN, secret_id=ID, description="Uploads wheels.")


@scenario("secret_not_found")
def delete_a_secret(_: World) -> Act:
    _pending()
    return lambda: secret_delete(actor=ADMIN, secret_id=ID)


@scenario()
def add_a_version(_: World) -> Act:
    _made()
    return lambda: version_add(actor=ADMIN, secret_id=ID, value="the second value", rotation_id="rotation")


@scenario("changed_meanwhile")
def activate_a_version(_: World) -> Act:
    _pending()
    return _activate


@scenario()
def revert_a_version(_: World) -> Act:
    number = _pending()
    return lambda: version_revert(actor=ADMIN, secret_id=ID, number=number)


@scenario()
def retire_a_version(_: World) -> Act:
    _pending()
    _activate()
    return lambda: version_retire(actor=ADMIN, secret_id=ID, number=1)


# A repeated request is answered again, and recorded again.
@scenario(repeatable=False)
def give_a_secret_to_a_job(world: World) -> Act:
    _made()
    job_id = world.running()

    def act() -> Any:
        job = Job.get(job_id, consistent_read=True)
        job.definition = {"secrets": [ID]}
        return start_secrets(agent=world.agent, job=job, attempt=1, channel=Channel(KEY, ()))

    return act


# The attempt's end comes after it, in a transaction of its own; an agent that hears of neither starts again.
@scenario(repeatable=False)
def record_a_refusal(world: World) -> Act:
    attempt = Attempt(world.running(), 1, "run", Recipient("self", "main"), ())
    return lambda: delivery_refuse(agent=world.agent, attempt=attempt, names=[ID], reason="There is none.")


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
