"""Encrypting secrets and agents' keys anew, after the key that encrypts them was replaced."""

from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import Agent
from apps.agents.selectors import identity_forget
from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.secrets.models import Secret, SecretVersion
from apps.secrets.selectors import secret_get
from apps.secrets.services import secret_set, version_add, version_value
from apps.secrets.services.rewrapping import secrets_rewrap
from apps.secrets.services.values import fingerprint_of
from controlplane.lib.envelope import is_current, key_replace, keys_kept
from controlplane.nosql.connection import ConditionFailed
from tests.commands import command
from tests.conftest import OPERATOR
from tests.secrets.conftest import VALUE, secret_made
from tests.signing import enrolled


@pytest.fixture(autouse=True)
def key_file(settings: Any, tmp_path: Path) -> None:
    settings.KEY_FILE = tmp_path / "sealing.key"


def texts() -> list[str]:
    """Everything that is stored encrypted."""
    values = [str(version.encrypted) for version in SecretVersion.scan() if version.encrypted]
    keys = [str(key.encrypted) for agent in Agent.scan() for key in agent.keys]
    return [*values, *(str(secret.fingerprint_key) for secret in Secret.scan()), *keys]


def test_all_is_encrypted_by_the_new_key_and_nothing_needs_the_old_one(server: str) -> None:
    agent = enrolled(server)
    secret_made()
    secret_made("OTHER", pipeline="web")
    version_add(actor=OPERATOR, secret_id="PYPI_TOKEN", value="a pending value", rotation_id="r1")
    printed = command("secrets_rewrap", "--new-key").stdout
    assert "3 secrets, agents and connections looked at, 6 texts encrypted anew." in printed
    (recorded,) = audit_search(action=Action.ENCRYPTION_KEY_REPLACED).records
    assert f"The key {recorded.target.removeprefix('encryption_key:')} encrypts from now on." in printed
    assert len(texts()) == 6
    assert all(is_current(text) for text in texts())
    for path in keys_kept().values():
        assert str(path) in printed
        path.unlink()
    assert version_value(secret_id="PYPI_TOKEN", number=1) == VALUE
    secret = secret_get("PYPI_TOKEN")
    assert fingerprint_of(secret, VALUE) == secret.fingerprint
    identity_forget(agent.agent_id)
    agent.heartbeat()
    assert "0 texts encrypted anew" in command("secrets_rewrap").stdout


def test_one_that_was_stopped_goes_on_where_it_was(tables: None) -> None:
    for number in range(4):
        secret_made(f"SECRET_{number}")
    key_replace()

    class Stopped(Exception):
        pass

    def stop(secret_id: str) -> None:
        if secret_id == "SECRET_1":
            raise Stopped

    with pytest.raises(Stopped):
        secrets_rewrap(progress=stop)
    assert sum(is_current(text) for text in texts()) == 4
    assert secrets_rewrap(progress=lambda _: None) == 4


def test_a_value_that_is_set_meanwhile_stays(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_made()
    key_replace()
    update = SecretVersion.update

    def late(self: SecretVersion, *arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        secret_set(actor=OPERATOR, secret_id="PYPI_TOKEN", value="set meanwhile")
        try:
            return update(self, *arguments, **named)
        except ConditionFailed:
            assert self.number == 1
            raise

    monkeypatch.setattr(SecretVersion, "update", late)
    secrets_rewrap(progress=lambda _: None)
    assert version_value(secret_id="PYPI_TOKEN", number=2) == "set meanwhile"
    assert all(is_current(text) for text in texts())


def test_a_new_key_is_refused_where_kms_has_it(settings: Any) -> None:
    settings.KMS_KEY_ID = "alias/key"
    refused = command("secrets_rewrap", "--new-key")
    assert refused.returncode == 1
    assert "KMS keeps the key" in refused.stderr
