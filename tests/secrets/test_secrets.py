"""Creating, changing and deleting secrets."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from apps.accounts.policies import role_permissions
from apps.secrets.models import SPACE, Secret, SecretVersion
from apps.secrets.selectors import secret_get, secret_list, secret_versions, secrets_named
from apps.secrets.services import secret_change, secret_create, secret_delete, secret_set
from apps.secrets.states import Scope
from controlplane.lib.actor import Actor
from controlplane.lib.errors import ApplicationError, Conflict, Forbidden, InvalidInput, NotFound
from tests.conftest import ADMIN, OPERATOR
from tests.secrets.conftest import VALUE, recorded, secret_made

VIEWER = Actor("user", "01kaviewer000000000000000", "viewer", role_permissions("viewer"))
pytestmark = pytest.mark.usefixtures("tables")


def test_a_secret_is_stored_encrypted_and_recorded_by_its_fingerprint() -> None:
    secret = secret_made(pipeline="web", branches=("main", "release/*"))
    assert secret.secret_id == f"PYPI_TOKEN.{secret.scope.key}"
    stored = Secret.get(SPACE, secret.secret_id)
    assert stored.scope == Scope(pipeline="web", branches=("main", "release/*"))
    items = [stored.serialize(), *(one.serialize() for one in SecretVersion.scan())]
    assert VALUE not in str(items)
    ((action, detail),) = recorded(f"secret:{secret.secret_id}")
    assert action == "secret.created"
    assert detail == {
        "pipeline": "web",
        "environment": None,
        "branches": "main, release/*",
        "pull_requests": None,
        "version": 1,
        "fingerprint": secret.fingerprint,
    }


def test_equal_values_of_two_secrets_have_different_fingerprints() -> None:
    assert secret_made("A_TOKEN").fingerprint != secret_made("B_TOKEN").fingerprint


def test_secrets_of_one_name_have_different_scopes() -> None:
    secret_made(pipeline="web")
    secret_made()
    with pytest.raises(Conflict) as caught:
        secret_made(pipeline="web")
    assert caught.value.code == "name_taken"
    # A name that begins with another one is another name.
    secret_made("PYPI_TOKEN_2")
    secret_made("PYPI_TOKENS")
    found = secrets_named(["PYPI_TOKEN", "NOTHING", "not a name"])
    assert [secret.pipeline for secret in found["PYPI_TOKEN"]] == [None, "web"]
    assert found["NOTHING"] == found["not a name"] == []


def test_eight_threads_that_create_one_secret_create_it_once() -> None:
    def create(number: int) -> str:
        try:
            return secret_made(value=f"{VALUE} {number}").fingerprint
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    assert answers.count("name_taken") == 7
    assert secret_get("PYPI_TOKEN").fingerprint in answers
    assert len(secret_versions("PYPI_TOKEN")) == 1


@pytest.mark.parametrize(
    "scope", [{"pipeline": ""}, {"environment": "x" * 64}, {"pipeline": "a\nb"}, {"branches": ["a b"]}]
)
def test_a_scope_that_no_job_can_have_is_refused(scope: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        secret_made(**scope)


def test_what_is_said_about_a_secret_changes_and_its_value_stays() -> None:
    secret = secret_made()
    changed = secret_change(actor=ADMIN, secret_id="PYPI_TOKEN", description="Uploads wheels.", owner="Team Web")
    assert (changed.description, changed.owner, changed.fingerprint) == (
        "Uploads wheels.",
        "Team Web",
        secret.fingerprint,
    )
    secret_change(actor=ADMIN, secret_id="PYPI_TOKEN", description="Uploads wheels.")
    assert [action for action, _ in recorded("secret:PYPI_TOKEN")] == ["secret.created", "secret.changed"]
    assert recorded("secret:PYPI_TOKEN")[1][1]["owner"] == f"{OPERATOR.name} → Team Web"


def test_a_deleted_secret_has_no_values_left_and_its_numbers_do_not_come_again() -> None:
    secret_made()
    secret_set(actor=OPERATOR, secret_id="PYPI_TOKEN", value="another value")
    secret_delete(actor=OPERATOR, secret_id="PYPI_TOKEN")
    with pytest.raises(NotFound):
        secret_get("PYPI_TOKEN")
    assert [(version.state, version.encrypted) for version in secret_versions("PYPI_TOKEN")] == [
        ("deleted", None),
        ("retired", None),
    ]
    assert secret_made().current == 3
    with pytest.raises(NotFound):
        secret_delete(actor=OPERATOR, secret_id="NOTHING")


def test_secrets_are_listed_by_page() -> None:
    for number in range(5):
        secret_made(f"SECRET_{number}")
    first = secret_list(limit=3)
    rest = secret_list(limit=3, cursor=first.next_cursor)
    assert [secret.name for secret in first.secrets + rest.secrets] == [f"SECRET_{number}" for number in range(5)]
    assert rest.next_cursor is None


@pytest.mark.parametrize(
    "secret_id", ["", "nothing", "PYPI_TOKEN.", "PYPI_TOKEN.0123456789ab", "PYPI_TOKEN/x", "A" * 3000]
)
def test_an_unknown_secret_is_not_found(secret_id: str) -> None:
    secret_made()
    with pytest.raises(NotFound) as caught:
        secret_get(secret_id)
    assert caught.value.code == "secret_not_found"


def test_only_those_with_the_permission_change_secrets() -> None:
    secret_made()
    acts: list[Callable[[], object]] = [
        lambda: secret_create(actor=VIEWER, name="OTHER", value=VALUE),
        lambda: secret_set(actor=VIEWER, secret_id="PYPI_TOKEN", value="another value"),
        lambda: secret_change(actor=VIEWER, secret_id="PYPI_TOKEN", owner="me"),
        lambda: secret_delete(actor=VIEWER, secret_id="PYPI_TOKEN"),
    ]
    for act in acts:
        with pytest.raises(Forbidden):
            act()


def test_no_error_of_a_value_shows_it() -> None:
    secret_made()
    acts: list[Callable[[], object]] = [
        lambda: secret_made(value="tiny"),
        lambda: secret_set(actor=OPERATOR, secret_id="PYPI_TOKEN", value="tiny"),
        lambda: secret_set(actor=OPERATOR, secret_id="NOTHING", value=VALUE),
        secret_made,
    ]
    for act in acts:
        with pytest.raises(ApplicationError) as caught:
            act()
        assert "tiny" not in f"{caught.value.message}{caught.value.errors}"
        assert VALUE not in f"{caught.value.message}{caught.value.errors}"
