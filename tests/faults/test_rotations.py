"""DynamoDB fails while rotations of secrets are configured, begin, and are stopped and hastened.

What fails within a rotation is in tests/secrets/test_rotation_faults.py.
"""

import pytest

from apps.secrets.selectors.rotations import plan_get
from apps.secrets.services import secret_create
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from apps.secrets.services.rotations import rotation_hasten, rotation_stop, secret_rotate
from tests.conftest import ADMIN
from tests.faults.injection import Fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World

ID = "PYPI_TOKEN"

scenario = Scenarios(prepared_once=True)


def _configure() -> None:
    rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", schedule={"every_days": 1, "at": "03:00"})


def _planned() -> None:
    secret_create(actor=ADMIN, name=ID, value="the first value")
    _configure()


def _open_id() -> str:
    return str(plan_get(ID).open_id)


@scenario()
def configure_a_rotation(_: World) -> Act:
    secret_create(actor=ADMIN, name=ID, value="the first value")
    return _configure


@scenario("rotation_not_configured")
def rotate_a_secret_no_more(_: World) -> Act:
    _planned()
    return lambda: rotation_configuration_delete(actor=ADMIN, secret_id=ID)


@scenario("rotation_in_progress")
def rotate_a_secret(_: World) -> Act:
    _planned()
    return lambda: secret_rotate(actor=ADMIN, secret_id=ID)


@scenario()
def stop_a_rotation(_: World) -> Act:
    _planned()
    secret_rotate(actor=ADMIN, secret_id=ID)
    return lambda: rotation_stop(actor=ADMIN, rotation_id=_open_id())


@scenario()
def hasten_a_rotation(_: World) -> Act:
    _planned()
    secret_rotate(actor=ADMIN, secret_id=ID)
    return lambda: rotation_hasten(actor=ADMIN, rotation_id=_open_id())


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", list(scenario), ids=str)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)
