"""What users and schedules want of rotations."""

import pytest
from django.core.management import CommandError, call_command

from apps.secrets.selectors.rotations import plan_get, rotation_get
from apps.secrets.services import secret_delete
from apps.secrets.services.rotations import rotation_hasten, rotation_stop
from controlplane.lib.errors import Conflict, NotFound
from tests.conftest import OPERATOR
from tests.secrets.conftest import recorded
from tests.secrets.rotations import (
    ID,
    OLD,
    begun,
    current,
    measured,
    planned,
    settled,
    states,
    sweep,
    vault,
    webhook,
)
from tests.secrets.systems import Systems


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


def test_a_second_rotation_of_a_secret_is_refused_and_names_the_first(systems: Systems) -> None:
    planned([vault(systems)])
    first = begun()
    for minutes in (0, 1):
        with pytest.raises(Conflict, match=first.rotation_id) as error:
            begun()
        assert (error.value.status, error.value.code) == (409, "rotation_in_progress")
        sweep(minutes)
    settled(first)
    assert begun().entry != first.entry


def test_of_two_rotations_that_begin_at_once_one_is_refused(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.secrets.services import rotations

    planned([])
    plan = plan_get(ID)
    first = begun()
    # The second one has read the plan before the first has written it.
    reads = [plan, plan_get(ID)]
    monkeypatch.setattr(rotations, "plan_get", lambda _id: reads.pop(0))
    with pytest.raises(Conflict, match=first.rotation_id):
        begun()


def test_a_rotation_is_stopped_before_its_value_is_current_and_not_after(systems: Systems) -> None:
    planned([vault(systems), webhook(systems)])
    systems.refuse = lambda _method, path: (202, {}) if path == "/hook" else None
    rotation = begun()
    sweep()
    rotation_stop(actor=OPERATOR, rotation_id=rotation.rotation_id)
    rotation_stop(actor=OPERATOR, rotation_id=rotation.rotation_id)
    systems.refuse = lambda _method, _path: None
    assert settled(rotation).state == "failed"
    assert current() == OLD
    assert [action for action, _ in recorded(f"secret:{ID}")].count("secret.rotation_stopped") == 1
    # What a user stopped rings no alarm.
    assert measured() == 0
    second = begun()
    sweep()
    with pytest.raises(Conflict) as error:
        rotation_stop(actor=OPERATOR, rotation_id=second.rotation_id)
    assert error.value.code == "rotation_state"


def test_a_value_that_has_leaked_ends_at_once(systems: Systems) -> None:
    planned([vault(systems)], overlap_minutes=1440)
    # Before its new value is current, and during the overlap.
    for sweeps in (0, 1):
        rotation = begun()
        for _ in range(sweeps):
            sweep()
        for _ in range(2):
            rotation_hasten(actor=OPERATOR, rotation_id=rotation.rotation_id)
        for _ in range(2):
            sweep()
        assert (rotation_get(rotation.rotation_id).state, states()[-2:]) == ("completed", ["retired", "current"])
    actions = [action for action, _ in recorded(f"secret:{ID}")]
    assert actions.count("secret.rotation_hastened") == 2


def test_a_secret_is_not_deleted_during_a_rotation(systems: Systems) -> None:
    planned([vault(systems)])
    rotation = begun()
    with pytest.raises(Conflict) as error:
        secret_delete(actor=OPERATOR, secret_id=ID)
    assert error.value.code == "rotation_in_progress"
    settled(rotation)
    secret_delete(actor=OPERATOR, secret_id=ID)
    with pytest.raises(NotFound):
        plan_get(ID)


def test_the_command_rotates_a_secret_and_prints_its_steps(
    systems: Systems, capsys: pytest.CaptureFixture[str]
) -> None:
    planned([vault(systems)])
    call_command("secret_rotate", ID)
    printed = capsys.readouterr().out
    assert "apply of vault" in printed
    assert "The new value is current" in printed
    with pytest.raises(CommandError, match="goes on"):
        call_command("secret_rotate", ID)
    with pytest.raises(CommandError, match="There is no secret"):
        call_command("secret_rotate", "NOTHING")


def test_a_step_whose_system_is_gone_is_given_up_by_command(
    systems: Systems, capsys: pytest.CaptureFixture[str]
) -> None:
    planned([webhook(systems)])
    rotation = begun()
    with pytest.raises(CommandError, match="No step of it fails"):
        call_command("secret_rotate", ID, "--give-up")
    sweep()
    systems.refuse = lambda _method, _path: (410, {})
    for _ in range(3):
        sweep(minutes=20)
    assert rotation_get(rotation.rotation_id).state == "retiring"
    assert measured() == 1
    call_command("secret_rotate", ID, "--give-up")
    printed = capsys.readouterr().out
    assert "commit of hook: It was given up: 127.0.0.1" in printed
    assert "It has ended: completed." in printed
    assert (rotation_get(rotation.rotation_id).state, states()) == ("completed", ["retired", "current"])
    assert measured() == 0
    with pytest.raises(CommandError, match="No rotation of this secret goes on"):
        call_command("secret_rotate", ID, "--give-up")
