"""Replacing the key that signs identity tokens, by the sweep and by hand."""

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.secrets.services import identity_keys
from apps.secrets.services.identity_keys import ROTATED_AFTER, identity_keys_rotate
from controlplane import schedules
from controlplane.lib import clock, signing_keys
from controlplane.lib.errors import Unavailable
from controlplane.lib.signing_keys import Purpose
from controlplane.nosql.transaction import Transaction
from tests.secrets.conftest import recorded

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture(autouse=True)
def key_folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for keys in files, which are short ones."""
    monkeypatch.setattr(signing_keys, "_RSA_BITS", 1024)
    settings.KEY_FILE = tmp_path / "sealing.key"
    return tmp_path / "signing"


def ids() -> list[str]:
    """The keys that are published, the one that signs first."""
    return [key.key_id for key in signing_keys.signing_keys(Purpose.IDENTITY)]


def test_the_sweep_replaces_a_key_every_90_days_and_deletes_it_when_its_tokens_have_ended(key_folder: Path) -> None:
    assert timedelta(days=90) == ROTATED_AFTER
    assert identity_keys_rotate() == 0
    (first,) = ids()
    with clock.shifted(ROTATED_AFTER - timedelta(minutes=1)):
        assert identity_keys_rotate() == 0
    with clock.shifted(ROTATED_AFTER):
        assert (identity_keys_rotate(), identity_keys_rotate()) == (1, 0)
        second = ids()[1]
        assert ids() == [first, second]
        ((action, detail),) = recorded(f"identity_key:{second}")
        assert action == "identity_key.created"
        assert str(detail["signs_from"]) > clock.timestamp(clock.now() + timedelta(hours=23))
    with clock.shifted(ROTATED_AFTER + timedelta(hours=24.5)):
        assert identity_keys_rotate() == 0
        assert ids() == [second, first]
    with clock.shifted(ROTATED_AFTER + timedelta(hours=25.5)):
        assert (identity_keys_rotate(), identity_keys_rotate()) == (1, 0)
        assert ids() == [second]
        assert len(list(key_folder.iterdir())) == 1


def test_the_sweep_has_that_task(key_folder: Path) -> None:
    (task,) = (task for task in schedules.EACH_MINUTE if task.name == "identity_keys_rotate")
    assert task() == 0
    with clock.shifted(ROTATED_AFTER):
        assert task() == 1


def test_with_keys_in_kms_the_sweep_does_nothing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIGNING_KEY_IDS = ["alias/product"]
    monkeypatch.setattr(identity_keys, "identity_keys_rotate", lambda: pytest.fail("it must not be loaded"))
    (task,) = (task for task in schedules.EACH_MINUTE if task.name == "identity_keys_rotate")
    assert task() == 0


def test_an_operator_replaces_the_key_before_its_time() -> None:
    (first,) = ids()
    output = StringIO()
    call_command("identity_key_create", stdout=output)
    assert ids()[0] == first
    (second,) = set(ids()) - {first}
    said = f"The key {second} is published, and signs from {clock.now() + timedelta(days=1):%Y-%m-%d}"
    assert output.getvalue().startswith(said)
    assert [action for action, _ in recorded(f"identity_key:{second}")] == ["identity_key.created"]


def test_the_first_command_of_a_new_machine_makes_two_keys_of_which_the_first_signs() -> None:
    call_command("identity_key_create", stdout=StringIO())
    assert len(ids()) == 2


def test_a_key_that_cannot_be_recorded_is_not_created(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids()

    def fail(_: Transaction) -> None:
        raise Unavailable

    monkeypatch.setattr(Transaction, "commit", fail)
    with pytest.raises(CommandError, match="The database is not available"):
        call_command("identity_key_create")
    assert ids() == before


def test_with_keys_in_kms_the_command_says_where_to_create_one(settings: Any) -> None:
    settings.SIGNING_KEY_IDS = ["alias/product"]
    with pytest.raises(CommandError, match="Create a key there, and add its alias to SIGNING_KEY_IDS"):
        call_command("identity_key_create")
