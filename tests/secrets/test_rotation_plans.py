"""How secrets are rotated: configurations."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from apps.secrets.rotation.registry import ROTATORS, TARGETS, rotator_find, target_find
from apps.secrets.selectors.rotations import plan_find, plan_get
from apps.secrets.services import rotation_plans
from apps.secrets.services.rotation_plans import rotation_configuration_delete, rotation_configure
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.conftest import ADMIN, OPERATOR
from tests.secrets.conftest import recorded, secret_made
from tests.secrets.rotations import ID, begun, planned, vault, webhook
from tests.secrets.systems import Systems

DAILY = {"every_days": 1, "at": "03:00"}


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


def test_an_operator_rotates_and_only_an_admin_says_where_values_go(systems: Systems) -> None:
    planned([])
    with pytest.raises(Forbidden):
        rotation_configure(actor=OPERATOR, secret_id=ID, rotator="generated")
    with pytest.raises(Forbidden):
        rotation_configuration_delete(actor=OPERATOR, secret_id=ID)
    assert begun().state == "rotating"


def configured() -> list[dict[str, object]]:
    """The details of the audit events of configurations, oldest first."""
    return [detail for action, detail in recorded(f"secret:{ID}") if action == "secret.rotation_configured"]


def test_a_configuration_is_stored_changed_once_and_deleted() -> None:
    secret_made(ID)
    for _ in range(2):
        rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", config={"length": 20}, schedule=DAILY)
    plan = plan_get(ID)
    assert (int(plan.revision), int(plan.overlap_minutes), plan.changed_by) == (1, 1440, "admin")
    assert plan.rotator_config == {"length": 20, "alphabet": "letters-digits"}
    assert plan.schedule == {**DAILY, "weekday": None, "zone": "UTC"}
    assert plan.due_at[11:19] == "03:00:00"
    rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", overlap_minutes=7)
    plan = plan_get(ID)
    assert (int(plan.revision), int(plan.overlap_minutes), plan.schedule, plan.due_at) == (2, 7, None, None)
    rotation_configuration_delete(actor=ADMIN, secret_id=ID)
    with pytest.raises(NotFound) as error:
        plan_get(ID)
    assert error.value.code == "rotation_not_configured"
    assert [event["rotator"] for event in configured()] == ["– → generated", "generated → generated", "generated → –"]
    assert configured()[0]["schedule"] == "every day, 03:00 (UTC)"


def test_a_change_or_a_rotation_at_the_same_moment_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    secret_made(ID)
    before = rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", overlap_minutes=5)
    rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", overlap_minutes=6)
    reads = [before]
    monkeypatch.setattr(rotation_plans, "plan_find", lambda secret_id: reads.pop() if reads else plan_find(secret_id))
    with pytest.raises(Conflict) as error:
        rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", overlap_minutes=7)
    assert error.value.code == "changed_meanwhile"
    # A rotation goes on by what was configured at its begin, and keeps its configuration from being deleted.
    rotation = begun()
    rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", schedule=DAILY, overlap_minutes=8)
    assert (plan_get(ID).open, plan_get(ID).due_at) == (rotation.entry, None)
    with pytest.raises(Conflict) as error:
        rotation_configuration_delete(actor=ADMIN, secret_id=ID)
    assert error.value.code == "rotation_in_progress"


def test_ten_targets_are_possible_and_the_overlap_is_at_least_what_the_rotator_needs(systems: Systems) -> None:
    planned([{**webhook(systems), "name": f"hook-{number}"} for number in range(10)])
    assert len(plan_get(ID).targets) == 10
    for minutes, expected in ((None, 2160), (2160, 2160), (2161, 2161)):
        plan = rotation_configure(
            actor=ADMIN, secret_id=ID, rotator="django-signing-key", config={}, overlap_minutes=minutes
        )
        # A day until all processes have started anew, and twelve hours for which sessions last.
        assert int(plan.overlap_minutes) == expected
    with pytest.raises(InvalidInput, match="from 2160 to 43200"):
        rotation_configure(actor=ADMIN, secret_id=ID, rotator="django-signing-key", overlap_minutes=2159)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rotator": "none"}, "rotator"),
        ({"config": {"length": 5}}, "config.length"),
        ({"config": {"length": True}}, "config.length"),
        ({"config": {"width": 5}}, "config.width"),
        ({"config": []}, "config"),
        ({"targets": [{"name": "one", "kind": "none"}]}, "targets"),
        ({"targets": [{"name": "store", "kind": "vault"}]}, "targets.0.name"),
        ({"targets": [{"name": "Vault", "kind": "vault"}]}, "targets.0.name"),
        ({"targets": ["vault"]}, "targets.0"),
        ({"targets": [{"name": "vault", "kind": "vault", "config": {}}]}, "targets.0.config.address"),
        ({"targets": [{"name": f"t{number}", "kind": "vault"} for number in range(11)]}, "targets"),
        ({"schedule": {"every_days": 0, "at": "03:00"}}, "schedule.every_days"),
        ({"schedule": {"every_days": 1, "at": "3am"}}, "schedule.at"),
        ({"schedule": {"every_days": 1, "at": "03:00", "weekday": "freitag"}}, "schedule.weekday"),
        ({"schedule": {"every_days": 1, "at": "03:00", "zone": "../../etc/passwd"}}, "schedule.zone"),
        ({"schedule": []}, "schedule"),
        ({"overlap_minutes": -1}, "overlap_minutes"),
        ({"overlap_minutes": 10**9}, "overlap_minutes"),
    ],
)
def test_a_wrong_configuration_names_its_field(change: dict[str, Any], field: str) -> None:
    secret_made(ID)
    with pytest.raises(InvalidInput) as error:
        rotation_configure(actor=ADMIN, secret_id=ID, **{"rotator": "generated", **change})
    assert error.value.errors[0]["field"] == field
    assert " must" in f" {error.value.errors[0]['message']}"


def test_a_configuration_names_secrets_that_exist_and_not_the_one_that_is_rotated(systems: Systems) -> None:
    secret_made(ID)
    target = vault(systems)
    for name in ("VAULT_TOKEN", ID):
        target["config"]["token_secret"] = name
        with pytest.raises(InvalidInput) as error:
            rotation_configure(actor=ADMIN, secret_id=ID, rotator="generated", targets=[target])
        assert error.value.errors[0]["field"] == "targets.0.config.token_secret"


def test_the_system_may_configure_for_commands() -> None:
    secret_made(ID)
    assert rotation_configure(actor=SYSTEM, secret_id=ID, rotator="generated").rotator == "generated"


def test_the_manual_has_every_rotator_and_target_with_all_its_options() -> None:
    manual = (Path(django_settings.BASE_DIR) / "docs" / "rotation.md").read_text()
    sections = re.split(r"^#{2,3} ", manual, flags=re.MULTILINE)
    for name, system in [
        *((name, rotator_find(name)) for name in ROTATORS),
        *((name, target_find(name)) for name in TARGETS),
    ]:
        (section,) = [one for one in sections if f"`{name}`" in one.partition("\n")[0]]
        assert [option for option in system.options if f"`{option}`" not in section] == []
