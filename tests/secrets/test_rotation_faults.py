"""A fault at every step of a rotation: before or after, response lost, process killed, or refused for good.

After some sweeps, all systems agree: on the new value, or on the old one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from apps.secrets.models import Rotation
from apps.secrets.rotation.steps import RotationState
from apps.secrets.selectors import secret_get, secret_versions
from apps.secrets.selectors.rotations import plan_get
from apps.secrets.services import secret_create, secret_set, version_value
from apps.secrets.services.rotations import secret_rotate
from apps.secrets.states import VersionState
from tests.conftest import OPERATOR
from tests.emulator import items_read, items_replace
from tests.secrets.aws import USER, Aws
from tests.secrets.fleet import Fleet
from tests.secrets.postgresql import ADMIN_PASSWORD, OLD_PASSWORD, Database
from tests.secrets.rotations import (
    ID,
    OLD,
    REGISTRY_KEY,
    Calls,
    Fault,
    copies,
    database_calls,
    filled,
    github,
    kubernetes,
    outside_calls,
    planned,
    registry,
    settled,
    sweep,
    time_of_its_own,
    vault,
)
from tests.secrets.systems import Systems


@dataclass
class Place:
    """What a rotator changes: how it is configured, and how its state is put back and compared with a value.

    `reset` returns the value before the rotation. `agrees` raises unless the system accepts the first value, and no
    longer accepts the second one.
    """

    rotator: str
    config: dict[str, Any] = field(default_factory=dict)
    reset: Callable[[], str] = lambda: OLD
    agrees: Callable[[str, str | None], None] = lambda _current, _ended: None
    between: Callable[[], None] = lambda: None


@dataclass
class Runs:
    """What became of the runs with a fault."""

    new: int = 0
    old: int = 0

    def __str__(self) -> str:
        return f"{self.new + self.old} runs agree: {self.new} on the new value, {self.old} on the old one"


def one_run(place: Place, systems: Systems, old: str, rotation: Rotation, runs: Runs) -> None:
    """Sweep until the rotation has ended, and check that all systems agree."""
    sweep()
    place.between()
    done = settled(rotation, between=place.between)
    secret = secret_get(ID)
    current = version_value(secret_id=ID, number=int(secret.current))
    ends = [str(version.state) for version in secret_versions(ID)]
    assert ends.count(VersionState.CURRENT) == 1
    assert secret.pending is None
    assert VersionState.PENDING not in ends
    assert not plan_get(ID).open
    is_new = done.state == RotationState.COMPLETED
    assert (int(secret.current) == int(done.old_version)) == (not is_new)
    assert copies(systems) == dict.fromkeys(("vault", "github", "cluster"), current), done.steps
    place.agrees(current, old if is_new else None)
    runs.new += is_new
    runs.old += not is_new


def every_fault(place: Place, systems: Systems, emulator: str, *, everything: bool) -> None:
    """Runs of one rotation, with each fault at each call to the outside and to DynamoDB: or a few of all these."""
    planned([vault(systems), github(systems), kubernetes(systems)], rotator=place.rotator, config=place.config)
    items = items_read(emulator)
    runs = Runs()

    def run(outside: Calls, database: Calls) -> None:
        items_replace(emulator, items)
        old = place.reset()
        filled(systems, old)
        secret_set(actor=OPERATOR, secret_id=ID, value=old)
        with time_of_its_own():
            rotation = secret_rotate(actor=OPERATOR, secret_id=ID)
            with outside_calls(outside), database_calls(database):
                one_run(place, systems, old, rotation, runs)
        for calls in (outside, database):
            assert calls.number > calls.at
            assert calls.writes > calls.at_write

    if everything:
        _all_faults(place, run)
    else:
        run(Calls(at_write=2, fault=Fault.KILLED_AFTER), Calls())
        run(Calls(at_write=3, fault=Fault.DENIED), Calls())
        if place.rotator == "generated":
            run(Calls(), Calls(at_write=20, fault=Fault.LOST))
    print(f"{place.rotator}: {runs}")
    assert runs.new
    assert runs.old


def _all_faults(place: Place, run: Callable[[Calls, Calls], None]) -> None:
    run(outside := Calls(), database := Calls())
    for number, fault in outside.faults():
        run(Calls(at=number, fault=fault), Calls())
    for number, fault in database.faults():
        # What DynamoDB answers has nothing to do with most rotators. That a step is called again, has.
        if fault == Fault.KILLED_AFTER or (fault != Fault.DENIED and place.rotator in ("generated", "agent-keys")):
            run(Calls(), Calls(at=number, fault=fault))


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.nightly)], ids=["a few", "all"])
def everything(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_fault_at_every_step_of_a_generated_value(systems: Systems, emulator: str, everything: bool) -> None:
    every_fault(Place("generated"), systems, emulator, everything=everything)


def test_a_fault_at_every_step_of_a_role_of_postgresql(
    systems: Systems, database: Database, emulator: str, everything: bool
) -> None:
    old = database.value("app_a", OLD_PASSWORD)

    def reset() -> str:
        database.reset()
        return old

    def agrees(current: str, ended: str | None) -> None:
        assert database.lets_in(current)
        assert ended is None or not database.lets_in(ended)

    secret_create(actor=OPERATOR, name="DB_ADMIN", value=ADMIN_PASSWORD)
    place = Place("postgresql", database.config(), reset=reset, agrees=agrees)
    every_fault(place, systems, emulator, everything=everything)


def test_a_fault_at_every_step_of_an_access_key_of_aws(
    systems: Systems, aws: Aws, emulator: str, everything: bool
) -> None:
    def agrees(current: str, _ended: str | None) -> None:
        assert aws.keys() == {json.loads(current)["access_key_id"]: "Active"}

    place = Place("aws-access-key", {"user": USER, "delete_after_hours": 1}, reset=aws.key_fresh, agrees=agrees)
    every_fault(place, systems, emulator, everything=everything)


def test_a_fault_at_every_step_of_djangos_signing_key(
    systems: Systems, aws: Aws, emulator: str, settings: Any, everything: bool
) -> None:
    key, fallbacks = (f"/hybrid-ci-cd/{settings.STAGE}/{name}" for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"))
    old = "the key that signs before the rotation " + "x" * 20

    def reset() -> str:
        aws.parameter_put(key, old)
        aws.parameter_put(fallbacks, None)
        return old

    def agrees(current: str, _ended: str | None) -> None:
        assert aws.parameter(key) == current
        # A key as its own fallback changes nothing.
        assert aws.parameter(fallbacks) in (None, current)

    settings.SESSION_COOKIE_AGE = 60
    place = Place("django-signing-key", {"settle_hours": 0}, reset=reset, agrees=agrees)
    every_fault(place, systems, emulator, everything=everything)


def test_a_fault_at_every_step_of_the_rotator_in_the_manual(
    systems: Systems, emulator: str, settings: Any, everything: bool
) -> None:
    settings.ROTATORS = {"registry-key": "tests.secrets.own.RegistryKey"}

    def reset() -> str:
        registry(systems)
        return REGISTRY_KEY

    def agrees(current: str, _ended: str | None) -> None:
        assert [*systems.registry.values()] == [current]

    place = Place("registry-key", registry(systems), reset=reset, agrees=agrees)
    every_fault(place, systems, emulator, everything=everything)


def test_a_fault_at_every_step_of_agents_keys(systems: Systems, emulator: str, everything: bool) -> None:
    fleet = Fleet.enrolled(2)
    before = dict(fleet.holds)

    def reset() -> str:
        fleet.holds = dict(before)
        return OLD

    def agrees(_current: str, ended: str | None) -> None:
        fleet.poll()
        fleet.poll()
        assert fleet.newest() == fleet.holds
        assert all((fleet.holds[agent_id] == key_id) == (ended is None) for agent_id, key_id in before.items())

    place = Place("agent-keys", reset=reset, agrees=agrees, between=fleet.poll)
    every_fault(place, systems, emulator, everything=everything)
