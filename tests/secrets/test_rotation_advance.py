"""Rotations: one step after another, into all targets, and back again if one of them fails."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from apps.secrets.selectors.rotations import rotation_get
from apps.secrets.services import secret_set
from tests.conftest import OPERATOR
from tests.emulator import items_read
from tests.secrets.conftest import recorded
from tests.secrets.rotations import (
    CREDENTIALS,
    ID,
    OLD,
    OVERLAP,
    REGISTRY_KEY,
    begun,
    copies,
    current,
    github,
    kubernetes,
    measured,
    planned,
    registry,
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


def test_a_rotation_gives_all_targets_the_new_value_and_ends_the_old_one_after_the_overlap(systems: Systems) -> None:
    planned([vault(systems), github(systems), kubernetes(systems), webhook(systems)])
    rotation = begun()
    sweep()
    new = current()
    assert new != OLD
    assert copies(systems) == dict.fromkeys(("vault", "github", "cluster"), new)
    assert systems.webhook_value == new
    # Until the overlap ends, both are valid.
    sweep(minutes=OVERLAP - 1)
    assert states() == ["previous", "current"]
    sweep(minutes=1)
    done = rotation_get(rotation.rotation_id)
    assert (done.state, states()) == ("completed", ["retired", "current"])
    assert [step["act"] for step in done.steps if step["system"] == "vault"] == ["prepare", "apply", "verify", "commit"]
    assert all(step["begun_at"] <= step["done_at"] for step in done.steps)
    # No step that was done is done again.
    writes = [request for request in systems.requests if not request.startswith("GET")]
    assert writes == [
        "POST /v1/auth/token/renew-self",
        "POST /hook",
        "POST /v1/secret/data/app/db",
        "PUT /repos/acme/app/actions/secrets/DB_URL",
        "PATCH /api/v1/namespaces/apps/secrets/db",
        *["POST /hook"] * 3,
    ]
    # What else is in the systems stays.
    assert systems.vault["app/db"][1]["user"] == "app"
    assert systems.kubernetes["db"][1]["user"] == "YXBw"


def test_a_receiver_that_is_not_done_yet_is_asked_again(systems: Systems) -> None:
    planned([webhook(systems)])
    systems.refuse = lambda _method, _path: (202, {})
    rotation = begun()
    sweep()
    assert "goes on with it" in rotation_get(rotation.rotation_id).message
    systems.refuse = lambda _method, _path: None
    assert settled(rotation).state == "completed"
    # Each step is one event, whose id is the same when it comes again.
    assert [event.rpartition(".")[2] for event in systems.received.values()] == ["prepare", "apply", "verify", "commit"]


def test_a_target_that_refuses_leaves_the_old_value_current_everywhere(systems: Systems) -> None:
    planned([vault(systems), github(systems), kubernetes(systems)])
    systems.refuse = lambda method, _path: (403, {}) if method == "PATCH" else None
    done = settled(begun())
    assert (done.state, current(), states()) == ("failed", OLD, ["current", "reverted"])
    assert copies(systems) == dict.fromkeys(("vault", "github", "cluster"), OLD)
    assert "apply of cluster (kubernetes)" in done.reason
    assert "status 403" in done.reason


def test_a_target_that_does_not_answer_is_asked_again_and_then_the_rotation_is_reverted(systems: Systems) -> None:
    planned([vault(systems), kubernetes(systems)])
    systems.refuse = lambda method, _path: (500, {}) if method == "PATCH" else None
    rotation = begun()
    sweep()
    waiting = rotation_get(rotation.rotation_id)
    assert (waiting.state, "status 500" in waiting.message) == ("rotating", True)
    done = settled(rotation)
    assert (done.state, copies(systems)["vault"]) == ("failed", OLD)
    assert systems.requests.count("PATCH /api/v1/namespaces/apps/secrets/db") == 5


def test_the_old_value_is_restored_as_soon_as_a_target_answers_again_and_until_then_an_alarm_rings(
    systems: Systems,
) -> None:
    planned([vault(systems), kubernetes(systems)])
    systems.refuse = lambda method, path: (403, {}) if method == "PATCH" or current_is_new(systems, path) else None
    rotation = begun()
    for _ in range(4):
        sweep(minutes=6)
    assert rotation_get(rotation.rotation_id).state == "reverting"
    assert measured() == 1
    systems.refuse = lambda _method, _path: None
    assert settled(rotation).state == "failed"
    assert copies(systems)["vault"] == OLD


def current_is_new(systems: Systems, path: str) -> bool:
    """Vault no longer answers once it has the new value."""
    return path.startswith("/v1/") and systems.vault["app/db"][0] > 4


def test_a_value_that_a_user_sets_ends_the_rotation_and_one_set_during_the_overlap_does_not(systems: Systems) -> None:
    planned([vault(systems)])
    rotation = begun()
    secret_set(actor=OPERATOR, secret_id=ID, value="a value of a user")
    done = settled(rotation)
    assert (done.state, current()) == ("failed", "a value of a user")
    second = begun()
    sweep()
    secret_set(actor=OPERATOR, secret_id=ID, value="another value of a user")
    assert settled(second).state == "completed"
    assert current() == "another value of a user"


def test_each_rotation_and_each_step_that_changes_something_is_in_the_audit_trail(systems: Systems) -> None:
    planned([vault(systems)])
    settled(begun())
    found = recorded(f"secret:{ID}")
    assert [action for action, _ in found if action.startswith("secret.rotation_")] == [
        "secret.rotation_configured",
        "secret.rotation_started",
        *["secret.rotation_step"] * 5,
        "secret.rotation_completed",
    ]
    steps = [detail for action, detail in found if action == "secret.rotation_step"]
    assert [(detail["act"], detail["system"]) for detail in steps] == [
        ("make", "rotator (generated)"),
        ("apply", "rotator (generated)"),
        ("apply", "vault (vault)"),
        ("commit", "vault (vault)"),
        ("commit", "rotator (generated)"),
    ]
    assert steps[2]["credentials"] == "VAULT_TOKEN"


def test_no_value_and_no_credential_is_in_a_record_a_log_or_an_error(
    systems: Systems, emulator: str, caplog: pytest.LogCaptureFixture
) -> None:
    planned([vault(systems), github(systems), kubernetes(systems)])
    systems.refuse = lambda method, path: (403, {"errors": [path]}) if method == "PATCH" else None
    with caplog.at_level(logging.DEBUG, logger="apps"):
        settled(begun())
        systems.refuse = lambda _method, _path: None
        settled(begun())
    stored = items_read(emulator).decode()
    for secret in (OLD, current(), *CREDENTIALS.values()):
        assert secret not in stored
        assert secret not in caplog.text


def test_a_host_that_the_settings_do_not_allow_is_not_called(systems: Systems, settings: Any) -> None:
    planned([vault(systems)])
    # Without TLS it must be named so.
    settings.ROTATION_HOSTS = [systems.url.removeprefix("http://")]
    done = settled(begun())
    assert (done.state, systems.requests) == ("failed", [])
    assert "Add it to the setting ROTATION_HOSTS" in done.reason


def test_a_team_adds_its_own_rotator_and_target_by_a_setting(
    systems: Systems, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the manual shows."""
    settings.ROTATORS = {"registry-key": "tests.secrets.own.RegistryKey"}
    settings.ROTATION_TARGETS = {"key-file": "tests.secrets.own.KeyFile"}
    monkeypatch.setattr("tests.secrets.own.FOLDER", tmp_path)
    target = {"name": "proxy", "kind": "key-file", "config": {"name": "packages"}}
    planned([target], rotator="registry-key", config=registry(systems), value=REGISTRY_KEY)
    assert settled(begun()).state == "completed"
    assert [current()] == [*systems.registry.values()] == [(tmp_path / "packages").read_text()] != [REGISTRY_KEY]


def test_what_a_class_raises_is_not_shown_since_it_may_have_a_secret(systems: Systems, settings: Any) -> None:
    from tests.secrets.own import Shelf

    settings.ROTATION_TARGETS = {"shelf": "tests.secrets.own.Shelf"}
    planned([{"name": "shelf", "kind": "shelf"}])
    rotation = begun()
    sweep()
    (new,) = Shelf.holds
    done = settled(rotation)
    assert (done.state, current(), Shelf.holds) == ("failed", OLD, [])
    assert "It failed with RuntimeError." in done.reason
    assert new not in json.dumps(done.steps) + done.reason
