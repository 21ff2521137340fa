"""Encrypting the secrets of connections anew, after the key that encrypts them was replaced."""

from pathlib import Path
from typing import Any

import pytest

from apps.sources.models import Connection
from apps.sources.services import connection_create, connection_secret_rotate
from apps.sources.services.connection_rewrapping import _SECRETS, connections_rewrap
from controlplane.lib.envelope import is_current, key_replace, keys_kept
from tests.commands import command
from tests.conftest import ADMIN

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture(autouse=True)
def key_file(settings: Any, tmp_path: Path) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"


def stored() -> dict[str, str | None]:
    connection = Connection.get("default", "github")
    return {name: connection.secret(name) for name in _SECRETS}


def test_each_secret_of_a_connection_is_encrypted_anew_once_and_stays_the_same() -> None:
    members: dict[str, Any] = {"token": "a-token-of-a-user", "private_key": "a private key", "app_id": "4711"}
    connection_create(actor=ADMIN, connection_id="github", provider="github", **members)
    connection_secret_rotate(actor=ADMIN, connection_id="github")
    before = stored()
    assert all(before.values())
    key_replace()
    named: list[str] = []
    assert connections_rewrap(progress=named.append) == 4
    assert named == ["github"]
    for path in keys_kept().values():
        path.unlink()
    assert stored() == before
    connection = Connection.get("default", "github")
    assert all(is_current(getattr(connection, f"encrypted_{name}")) for name in _SECRETS)
    assert connections_rewrap(progress=lambda _: None) == 0


def test_all_encrypted_attributes_are_named() -> None:
    encrypted = {name for name in Connection.get_attributes() if name.startswith("encrypted_")}
    assert encrypted == {f"encrypted_{name}" for name in _SECRETS}


def test_the_command_does_it() -> None:
    connection_create(actor=ADMIN, connection_id="github", provider="github", token="a-token-of-a-user")
    assert "2 texts encrypted anew" in command("secrets_rewrap", "--new-key").stdout
    assert "0 texts encrypted anew" in command("secrets_rewrap").stdout
