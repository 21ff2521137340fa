"""What ``manage.py prune`` deletes, and what it leaves."""

from datetime import timedelta

import pytest

from apps.accounts.models import ApiToken, Session, User
from apps.accounts.services import api_token_create, session_start
from apps.agents.models import EnrolmentReceipt, EnrolmentToken
from apps.agents.services import agent_enrol, enrolment_token_create
from apps.jobs.models import IdempotencyKey, LogChunk
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.nosql.expiry import expired_delete
from controlplane.nosql.record import Record
from tests.commands import manage
from tests.conftest import ada_create
from tests.interleaving import before_call

HOUR = timedelta(hours=1)
ACTOR = Actor("system", "system", "tests", frozenset({"agents.enrol"}))


@pytest.fixture
def expiring(tables: None) -> list[type[Record]]:
    """One of each kind that expires within two days, and beside each one that does not."""
    user = ada_create("admin")
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + HOUR, actor=ACTOR)
    agent_enrol(token=token, name="one", region="eu", labels=[], slots=1, idempotency_key="x" * 20)
    api_token_create(user=user, name="short", expires_at=clock.now() + HOUR, actor=SYSTEM)
    api_token_create(user=user, name="ever", actor=SYSTEM)
    session_start(user=user, provider="password", device=None, address="192.0.2.7")
    IdempotencyKey("k", fingerprint="f", job_id="j", expires_at=clock.now() + HOUR).save()
    for sequence in range(3):
        LogChunk("job#1", sequence, data=b"x", expires_at=clock.now() + HOUR).save()
    return [ApiToken, Session, EnrolmentToken, IdempotencyKey, LogChunk]


def left(kind: type[Record]) -> int:
    return sum(1 for _ in kind.scan())


def test_nothing_is_deleted_before_its_time(expiring: list[type[Record]]) -> None:
    before = {kind: left(kind) for kind in expiring}
    assert sum(deleted for _, deleted in expired_delete()) == 0
    assert {kind: left(kind) for kind in expiring} == before


def test_whatever_has_expired_is_deleted_and_nothing_else(expiring: list[type[Record]]) -> None:
    with clock.shifted(timedelta(days=2)):
        deleted = {name.removeprefix("hybrid-ci-cd-").removesuffix("-test"): count for name, count in expired_delete()}
    assert deleted["job-logs"] == 3
    # The token and the receipt of the agent that it enrolled are in one table.
    assert deleted["enrolment-tokens"] == 2
    assert (deleted["api-tokens"], deleted["sessions"], deleted["idempotency"]) == (1, 1, 1)
    assert [token.name for token in ApiToken.scan()] == ["ever"]
    assert left(EnrolmentReceipt) == left(Session) == left(IdempotencyKey) == left(LogChunk) == 0
    assert left(User) == 1


def test_what_is_extended_meanwhile_stays_and_does_not_end_the_rest(tables: None) -> None:
    for sequence in range(3):
        LogChunk("job#1", sequence, data=b"x", expires_at=clock.now() + HOUR).save()

    def extend() -> None:
        LogChunk("job#1", 0).update(actions=[LogChunk.expires_at.set(clock.now() + HOUR)])

    # All three have been read when the first one is deleted.
    with clock.shifted(timedelta(days=2)), before_call(extend, operations=frozenset({"DeleteItem"})):
        assert dict(expired_delete())["hybrid-ci-cd-job-logs-test"] == 2
    assert [chunk.sequence for chunk in LogChunk.scan()] == [0]


def test_the_command_says_what_it_deleted(expiring: list[type[Record]]) -> None:
    token = next(token for token in ApiToken.scan() if token.name == "short")
    token.update(actions=[ApiToken.expires_at.set(clock.now() - HOUR)])
    ended = manage("prune", STAGE="test")
    assert ended.returncode == 0, ended.stderr
    assert "hybrid-ci-cd-api-tokens-test: 1 deleted\n" in ended.stdout
    assert "hybrid-ci-cd-sessions-test: 0 deleted\n" in ended.stdout
