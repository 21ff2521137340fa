"""The addresses of targets are encrypted anew after the key was replaced."""

from pathlib import Path
from typing import Any

import pytest

from apps.notifications.models import Target
from apps.notifications.selectors.targets import target_address, target_get
from apps.notifications.services import target_change
from apps.notifications.services.encryption import targets_rewrap
from controlplane.lib.envelope import is_current, key_replace
from tests.conftest import OPERATOR
from tests.interleaving import before_call
from tests.notifications.test_targets import URL, made

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture(autouse=True)
def key_file(settings: Any, tmp_path: Path) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"


def test_addresses_are_encrypted_by_the_new_key_and_those_that_are_changed_meanwhile_stay() -> None:
    ids = [str(made().target_id) for _ in range(2)]
    key_replace()
    fresh = f"{URL}-fresh"
    with before_call(
        lambda: target_change(actor=OPERATOR, target_id=ids[0], url=fresh),
        operations=frozenset({"UpdateItem"}),
    ):
        assert targets_rewrap(progress=lambda _: None) == 1
    assert targets_rewrap(progress=lambda _: None) == 0
    assert all(is_current(str(target.encrypted)) for target in Target.query("targets"))
    assert [target_address(target_get(target_id)).url for target_id in ids] == [fresh, URL]
