"""Values of secrets: set at once by people, and step by step by rotations."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.secrets.models import SecretVersion
from apps.secrets.selectors import secret_get, secret_versions
from apps.secrets.services import (
    secret_set,
    version_activate_add,
    version_add,
    version_retire,
    version_revert,
    version_value,
)
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed
from tests.conftest import OPERATOR
from tests.secrets.conftest import VALUE, recorded, secret_made

pytestmark = pytest.mark.usefixtures("tables")
ID = "PYPI_TOKEN"
NEW = "a value that is new"


def states() -> list[tuple[int, str, bool]]:
    """Number, state, and whether there is a value, oldest first."""
    return [(int(one.number), str(one.state), bool(one.encrypted)) for one in reversed(secret_versions(ID))]


def activate() -> None:
    tx = Transaction()
    version_activate_add(tx, actor=OPERATOR, secret=secret_get(ID))
    tx.commit()


def test_a_new_value_is_current_at_once_and_the_one_before_is_deleted() -> None:
    before = secret_made()
    secret = secret_set(actor=OPERATOR, secret_id=ID, value=NEW)
    assert version_value(secret_id=ID, number=int(secret.current)) == NEW
    assert states() == [(1, "retired", False), (2, "current", True)]
    assert recorded(f"secret:{ID}")[1] == (
        "secret.version_added",
        {"version": 2, "fingerprint": f"{before.fingerprint} → {secret.fingerprint}"},
    )


def test_setting_the_current_value_again_changes_nothing() -> None:
    secret_made()
    assert secret_set(actor=OPERATOR, secret_id=ID, value=VALUE).current == 1
    assert len(recorded(f"secret:{ID}")) == 1


def test_of_eight_threads_that_set_a_value_those_that_fail_say_so() -> None:
    secret_made()

    def act(number: int) -> str:
        try:
            return str(secret_set(actor=OPERATOR, secret_id=ID, value=f"{NEW} {number}").fingerprint)
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(act, range(8)))
    done = [answer for answer in answers if answer != "changed_meanwhile"]
    secret = secret_get(ID)
    assert secret.fingerprint in done
    assert int(secret.current) == len(done) + 1 == len(secret_versions(ID))
    assert [value for _, _, value in states()] == [False] * len(done) + [True]


def test_a_rotation_makes_a_pending_version_current_and_keeps_the_one_before_until_it_is_retired() -> None:
    secret_made()
    number = version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r1")
    assert version_value(secret_id=ID, number=int(secret_get(ID).current)) == VALUE
    assert states() == [(1, "current", True), (2, "pending", True)]
    activate()
    assert version_value(secret_id=ID, number=int(secret_get(ID).current)) == NEW
    assert states() == [(1, "previous", True), (2, "current", True)]
    for _ in range(2):
        version_retire(actor=OPERATOR, secret_id=ID, number=1)
        assert states() == [(1, "retired", False), (2, "current", True)]
    assert [action for action, _ in recorded(f"secret:{ID}")] == [
        "secret.created",
        "secret.version_added",
        "secret.version_activated",
        "secret.version_retired",
    ]
    assert number == 2


def test_a_reverted_version_never_becomes_current() -> None:
    secret_made()
    number = version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r1")
    for _ in range(2):
        version_revert(actor=OPERATOR, secret_id=ID, number=number)
        assert states() == [(1, "current", True), (2, "reverted", False)]
    with pytest.raises(Conflict):
        activate()
    assert version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r2") == 3


def test_adding_the_version_of_a_rotation_again_returns_the_same_one_and_another_rotation_is_refused() -> None:
    secret_made()
    for _ in range(2):
        assert version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r1") == 2
    with pytest.raises(Conflict) as caught:
        version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r2")
    assert caught.value.code == "rotation_in_progress"
    with pytest.raises(Conflict) as caught:
        secret_set(actor=OPERATOR, secret_id=ID, value="by a user, meanwhile")
    assert caught.value.code == "rotation_in_progress"


def test_of_two_activations_one_wins() -> None:
    secret_made()
    version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r1")
    secret = secret_get(ID)
    first, second = Transaction(), Transaction()
    version_activate_add(first, actor=OPERATOR, secret=secret)
    version_activate_add(second, actor=OPERATOR, secret=secret)
    first.commit()
    with pytest.raises(TransactionFailed):
        second.commit()


@pytest.mark.parametrize("act", [version_retire, version_revert])
def test_the_current_version_is_neither_retired_nor_reverted(act: object) -> None:
    secret_made()
    with pytest.raises(Conflict):
        act(actor=OPERATOR, secret_id=ID, number=1)  # type: ignore[operator]
    assert states() == [(1, "current", True)]


def test_a_value_that_was_moved_to_another_version_or_secret_does_not_open() -> None:
    secret_made()
    secret_made("OTHER")
    secret_made(value="the value of a pipeline", pipeline="web")
    version_add(actor=OPERATOR, secret_id=ID, value=NEW, rotation_id="r1")
    versions = list(SecretVersion.scan())
    for one in versions:
        for other in versions:
            if one is other:
                continue
            SecretVersion(one.secret_id, one.number).update([SecretVersion.encrypted.set(other.encrypted)])
            with pytest.raises(DecryptionFailed):
                version_value(secret_id=one.secret_id, number=int(one.number))
