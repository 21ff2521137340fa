"""What rotators and targets do with single systems: AWS, GitHub, webhooks, PostgreSQL, agents."""

import json
import threading
from typing import Any

import pytest

from apps.secrets.models import Rotation
from apps.secrets.rotation.rotators.postgresql import scram_verifier
from apps.secrets.selectors.rotations import rotation_get
from apps.secrets.services import secret_create
from controlplane.lib.aws_accounts import account_client
from controlplane.lib.errors import InvalidInput
from tests.conftest import OPERATOR
from tests.secrets.aws import USER, Aws
from tests.secrets.postgresql import ADMIN_PASSWORD, OLD_PASSWORD, Database
from tests.secrets.rotations import (
    OLD,
    OVERLAP,
    Calls,
    begun,
    copies,
    current,
    github,
    kubernetes,
    outside_calls,
    planned,
    settled,
    sweep,
    vault,
    webhook,
)
from tests.secrets.systems import Systems


@pytest.fixture(autouse=True)
def _tables(systems: Systems) -> None:
    """Empty tables, and the systems."""


# --- targets ----------------------------------------------------------------------------------------------------------


def test_secrets_manager_and_parameter_store_get_the_new_value_or_keep_the_old_one(systems: Systems, aws: Aws) -> None:
    aws.secretsmanager.create_secret(Name="app/db", SecretString=OLD)
    aws.parameter_put("/app/db", OLD)
    targets = [
        {"name": "secret", "kind": "aws-secret", "config": {"secret": "app/db"}},
        {"name": "parameter", "kind": "aws-parameter", "config": {"name": "/app/db"}},
        webhook(systems),
    ]
    planned(targets)

    def held() -> set[str | None]:
        secret = aws.secretsmanager.get_secret_value(SecretId="app/db")["SecretString"]
        return {secret, aws.parameter("/app/db"), systems.webhook_value}

    systems.refuse = lambda _method, path: (403, {}) if path == "/hook" and len(systems.requests) > 1 else None
    assert settle_refused(systems).state == "failed"
    assert held() == {OLD}
    systems.refuse = lambda _method, _path: None
    assert settled(begun()).state == "completed"
    assert held() == {current()} != {OLD}


def settle_refused(systems: Systems) -> Rotation:
    """The receiver refuses to apply, and does its part in the reversal."""
    rotation = begun()
    sweep()
    systems.refuse = lambda _method, _path: None
    return settled(rotation)


def test_a_secret_that_aws_does_not_have_is_said_before_anything_changes(systems: Systems, aws: Aws) -> None:
    planned([vault(systems), {"name": "secret", "kind": "aws-secret", "config": {"secret": "missing"}}])
    done = settled(begun())
    assert (done.state, copies(systems)["vault"], done.new_version) == ("failed", OLD, None)
    assert "Create the secret missing first." in done.reason


def test_a_role_is_assumed_for_the_account_that_has_the_secret(aws: Aws, settings: Any) -> None:
    role = "arn:aws:iam::210987654321:role/hybrid-ci-cd-rotation-app"
    client = account_client("sts", region=settings.AWS_REGION, role_arn=role, session_name="rotation")
    assert client.get_caller_identity()["Arn"].endswith(":assumed-role/hybrid-ci-cd-rotation-app/rotation")


def test_only_roles_for_rotations_may_be_assumed() -> None:
    config = {"name": "/app/db", "role_arn": "arn:aws:iam::210987654321:role/admin"}
    with pytest.raises(InvalidInput) as error:
        planned([{"name": "parameter", "kind": "aws-parameter", "config": config}])
    assert error.value.errors[0]["field"] == "targets.0.config.role_arn"


def test_a_secret_of_an_environment_of_github(systems: Systems) -> None:
    planned([github(systems, environment="production")])
    assert settled(begun()).state == "completed"
    assert systems.github["environments/production/DB_URL"] == current()
    assert systems.github["actions/DB_URL"] == OLD


def test_another_writer_of_the_same_secret_is_not_overwritten(systems: Systems) -> None:
    """Vault's check-and-set and Kubernetes' resourceVersion see it, and the step reads again."""
    planned([vault(systems), kubernetes(systems)])
    touched: set[str] = set()

    def another_writer(method: str, path: str) -> None:
        if method in ("POST", "PATCH") and path not in touched:
            touched.add(path)
            version, members = systems.vault["app/db"]
            systems.vault["app/db"] = (version + 1, {**members, "more": "1"})
            number, data = systems.kubernetes["db"]
            systems.kubernetes["db"] = (number + 1, {**data, "more": "MQ=="})

    systems.refuse = another_writer
    assert settled(begun()).state == "completed"
    assert systems.vault["app/db"][1] == {"url": current(), "user": "app", "more": "1"}
    assert systems.kubernetes["db"][1]["more"] == "MQ=="


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned_database(database: Database, systems: Systems) -> Database:
    secret_create(actor=OPERATOR, name="DB_ADMIN", value=ADMIN_PASSWORD)
    old = database.value("app_a", OLD_PASSWORD)
    planned([vault(systems)], rotator="postgresql", config=database.config(), value=old)
    return database


def test_a_client_of_postgresql_is_never_refused_while_two_roles_take_turns(planned_database: Database) -> None:
    """One client takes the current value each time, another one keeps a value for as long as the overlap."""
    refused: list[str] = []
    logins = 0
    stop = threading.Event()
    kept = current()

    def client() -> None:
        nonlocal logins
        while not stop.is_set():
            for value in {current(), kept}:
                logins += 1
                if not planned_database.lets_in(value):
                    refused.append(value)

    roles = []
    for _ in range(2):
        kept = current()
        stop.clear()
        thread = threading.Thread(target=client)
        thread.start()
        rotation = begun()
        sweep()
        sweep(minutes=OVERLAP - 1)
        stop.set()
        thread.join()
        old, new = kept, current()
        assert settled(rotation).state == "completed"
        assert (planned_database.lets_in(old), planned_database.lets_in(new)) == (False, True)
        roles.append(new.partition("//")[2].partition(":")[0])
    print(f"{logins} logins, {len(refused)} refused")
    assert (refused, roles) == ([], ["app_b", "app_a"])
    assert logins >= 10


def test_a_database_that_is_not_allowed_or_lacks_a_role_is_said_before_anything_changes(
    planned_database: Database, settings: Any
) -> None:
    settings.ROTATION_HOSTS = [host for host in settings.ROTATION_HOSTS if str(planned_database.port) not in host]
    done = settled(begun())
    assert f"Rotations may not call 127.0.0.1:{planned_database.port}" in done.reason
    assert planned_database.lets_in(current())


def test_the_server_gets_a_verifier_of_the_password_and_never_the_password() -> None:
    # RFC 7677 section 3, whose password is "pencil".
    import base64

    verifier = scram_verifier("pencil", salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


# --- AWS access keys --------------------------------------------------------------------------------------------------


def test_a_client_with_an_access_key_is_never_refused_and_the_old_key_is_deactivated_before_it_is_deleted(
    systems: Systems, aws: Aws
) -> None:
    old = aws.key_fresh()
    planned([vault(systems)], rotator="aws-access-key", config={"user": USER}, value=old)
    old_id = json.loads(old)["access_key_id"]
    refused: list[str] = []
    calls = Calls()
    around = calls.around
    looking: list[bool] = []

    def watched(call: Any, *arguments: Any, **options: Any) -> Any:
        # Before each call, the keys of a client that takes the current value, and of one that keeps the old one.
        if looking:
            return call()
        looking.append(True)
        keys = aws.keys()
        looking.clear()
        refused.extend(key for key in (old_id, json.loads(current())["access_key_id"]) if keys.get(key) != "Active")
        return around(call, *arguments, **options)

    calls.around = watched  # type: ignore[method-assign]
    rotation = begun()
    with outside_calls(calls):
        sweep()
        sweep(minutes=OVERLAP - 1)
    assert (refused, calls.number > 5) == ([], True)
    new_id = json.loads(current())["access_key_id"]
    sweep(minutes=1)
    assert aws.keys() == {old_id: "Inactive", new_id: "Active"}
    assert rotation_get(rotation.rotation_id).message == "The old key is deactivated."
    sweep(minutes=23 * 60)
    assert aws.keys().keys() == {old_id, new_id}
    sweep(minutes=60)
    assert aws.keys() == {new_id: "Active"}
    assert rotation_get(rotation.rotation_id).state == "completed"


def test_a_user_with_two_keys_is_said_before_anything_changes(aws: Aws) -> None:
    old = aws.key_fresh()
    aws.iam.create_access_key(UserName=USER)
    planned([], rotator="aws-access-key", config={"user": USER}, value=old)
    assert "has two access keys already" in settled(begun()).reason
    assert len(aws.keys()) == 2


# --- Django's keys ----------------------------------------------------------------------------------------------------


def test_every_process_accepts_a_key_of_django_before_any_signs_with_it(aws: Aws, settings: Any) -> None:
    key, fallbacks = (f"/hybrid-ci-cd/{settings.STAGE}/{name}" for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"))
    old = "the key that signs before the rotation " + "x" * 20
    aws.parameter_put(key, old)
    aws.parameter_put(fallbacks, None)
    planned([], rotator="django-signing-key", config={"settle_hours": 2}, value=old, overlap_minutes=None)
    rotation = begun()
    sweep()
    new = aws.parameter(fallbacks)
    assert (aws.parameter(key), new != old) == (old, True)
    sweep(minutes=60)
    assert aws.parameter(key) == old
    sweep(minutes=61)
    assert (aws.parameter(key), aws.parameter(fallbacks), current()) == (new, old, new)
    # Sessions that the old key signed last as long as they may.
    sweep(minutes=12 * 60)
    assert aws.parameter(fallbacks) == old
    assert settled(rotation).state == "completed"
    assert (aws.parameter(key), aws.parameter(fallbacks)) == (new, new)


def test_the_value_must_be_the_stages_key(aws: Aws, settings: Any) -> None:
    aws.parameter_put(f"/hybrid-ci-cd/{settings.STAGE}/SECRET_KEY", "another key " * 5)
    planned([], rotator="django-signing-key", overlap_minutes=None)
    assert "must be the stage's SECRET_KEY" in settled(begun()).reason
