"""Which secrets an attempt gets, how they are encrypted, and what is recorded."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from apps.secrets.models import SecretVersion
from apps.secrets.selectors import secret_deliveries, secret_get
from apps.secrets.services import secret_delete, secret_set
from apps.secrets.services.deliveries import (
    Attempt,
    Delivery,
    SecretsMissing,
    delivery_refuse,
    public_key_read,
    secrets_deliver,
)
from apps.secrets.states import Recipient
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import InvalidInput
from controlplane.nosql.transaction import Transaction
from tests.conftest import OPERATOR
from tests.secrets.conftest import VALUE, recorded, secret_made

pytestmark = pytest.mark.usefixtures("tables")
AGENT = Actor("agent", "01kaagent000000000000000000", "builder")
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
KEY = X25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def attempt(*, targets: tuple[str, ...] = (), **job: object) -> Attempt:
    recipient = Recipient(**{"pipeline": "web", "branch": "main", **job})  # type: ignore[arg-type]
    return Attempt("job-1", 2, "run-1", recipient, targets)


def deliver(*names: str, to: Attempt | None = None, public_key: bytes = PUBLIC) -> Delivery:
    tx = Transaction()
    delivery = secrets_deliver(tx, agent=AGENT, attempt=to or attempt(), names=names, public_key=public_key)
    tx.commit()
    return delivery


def opened(delivery: Delivery, *, info: bytes | None = None) -> dict[str, str]:
    info = info or b"\0".join((b"hybrid-ci secrets", AGENT.id.encode(), b"job-1", b"2"))
    document = json.loads(SUITE.decrypt(base64.b64decode(delivery.encrypted), KEY, info))
    return {one["name"]: one["value"] for one in document["secrets"]}


def test_only_the_owner_of_the_key_reads_the_values_and_only_for_this_attempt() -> None:
    secret_made()
    secret_made("OTHER", "zwölf 🔑\nlines")
    delivery = deliver("PYPI_TOKEN", "OTHER")
    assert opened(delivery) == {"PYPI_TOKEN": VALUE, "OTHER": "zwölf 🔑\nlines"}
    assert VALUE not in repr(base64.b64decode(delivery.encrypted))
    for info in (
        b"",
        b"hybrid-ci secrets\0other\0job-1\x002",
        b"hybrid-ci secrets\0" + AGENT.id.encode() + b"\0job-1\x003",
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 — the library has several
            opened(delivery, info=info or b"x")


def test_each_delivery_is_recorded_with_its_version_and_answers_who_has_seen_it() -> None:
    secret = secret_made()
    deliver("PYPI_TOKEN")
    secret_set(actor=OPERATOR, secret_id="PYPI_TOKEN", value="the second value")
    deliver("PYPI_TOKEN")
    seen = secret_deliveries("PYPI_TOKEN").deliveries
    assert [(one.version, one.job_id, one.attempt, one.run_id, one.pipeline, one.agent) for one in seen] == [
        (2, "job-1", 2, "run-1", "web", "builder"),
        (1, "job-1", 2, "run-1", "web", "builder"),
    ]
    assert seen[1].fingerprint == secret.fingerprint != seen[0].fingerprint
    assert VALUE not in str(recorded("secret:PYPI_TOKEN"))


def test_the_secret_with_the_narrowest_scope_is_taken() -> None:
    secret_made(value="of everywhere")
    secret_made(value="of branch main", branches=("main",))
    secret_made(value="of pipeline web", pipeline="web")
    secret_made(value="of pipeline web and main", pipeline="web", branches=("main",))
    secret_made(value="of production", environment="production")

    def value(**job: object) -> str:
        return opened(deliver("PYPI_TOKEN", to=attempt(targets=("production",), **job)))["PYPI_TOKEN"]

    assert value() == "of pipeline web and main"
    assert value(branch="next") == "of pipeline web"
    assert value(pipeline="api", branch="next") == "of everywhere"
    assert value(pipeline="api") == "of branch main"
    assert value(environment="production") == "of production"


@pytest.mark.parametrize(
    ("scope", "to", "message"),
    [
        (None, attempt(), "There is no secret PYPI_TOKEN"),
        ({"pipeline": "api"}, attempt(), r"includes this job \(pipeline web, branch main, no environment\)"),
        ({}, attempt(is_proposed=True), "a pull request"),
        ({"pull_requests": True}, attempt(is_proposed=True, is_from_fork=True), "a pull request from a fork"),
        (
            {"environment": "production"},
            attempt(environment="production", targets=("staging",)),
            "environment production, to which this agent may not deploy",
        ),
    ],
)
def test_a_job_that_may_not_get_a_secret_hears_why(scope: dict[str, Any] | None, to: Attempt, message: str) -> None:
    if scope is not None:
        secret_made(**scope)
    secret_made("ALLOWED", pull_requests=True)
    with pytest.raises(SecretsMissing, match=message) as caught:
        deliver("ALLOWED", "PYPI_TOKEN", to=to)
    assert caught.value.code == "secrets_missing"
    # Not even those that it might get are delivered, and none is recorded.
    assert secret_deliveries("ALLOWED").deliveries == secret_deliveries("PYPI_TOKEN").deliveries == []


def test_a_refused_delivery_is_recorded() -> None:
    delivery_refuse(agent=AGENT, attempt=attempt(), names=["A", "B"], reason="There is no secret A.")
    ((action, detail),) = recorded("job:job-1")
    assert (action, detail["secrets"], detail["reason"]) == (
        "secret.delivery_refused",
        "A, B",
        "There is no secret A.",
    )


def test_a_value_that_another_key_encrypted_fails_the_job_with_a_message(tables: None) -> None:
    secret_made()
    version = SecretVersion.get("PYPI_TOKEN", 1)
    version.update([SecretVersion.encrypted.set(str(version.encrypted)[:-4] + "AAAA")])
    with pytest.raises(SecretsMissing, match="cannot be decrypted"):
        deliver("PYPI_TOKEN")
    secret_delete(actor=OPERATOR, secret_id="PYPI_TOKEN")


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", base64.b64encode(b"k" * 31).decode(), "A" * 5000])
def test_what_is_no_public_key_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="secrets_key: must be"):
        public_key_read(text)


def test_a_key_that_gives_a_secret_that_all_know_is_refused() -> None:
    secret_made()
    with pytest.raises(InvalidInput, match="secrets_key: must be"):
        deliver("PYPI_TOKEN", public_key=bytes(32))


def test_the_last_use_is_noted_once_a_minute() -> None:
    secret_made()
    moments = []
    for seconds in (0, 30, 61):
        with clock.shifted(timedelta(seconds=seconds)):
            deliver("PYPI_TOKEN").note_use()
            moments.append(secret_get("PYPI_TOKEN").delivered_at)
    assert moments[0] == moments[1] is not None
    assert moments[2] > moments[1]
