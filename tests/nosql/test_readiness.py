"""``GET /health/ready``: whether the database answers, for any caller and at little cost."""

import time

import pytest

from controlplane.nosql import readiness
from tests.clients import Client, problem
from tests.faults.injection import Fault, outage
from tests.metering import dynamodb_calls


@pytest.fixture(autouse=True)
def never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_answered_at", None)


def test_it_is_ready_when_the_database_answers(outsider: Client) -> None:
    answer = outsider.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.headers["Cache-Control"] == "no-store"


def test_asking_often_costs_one_read(outsider: Client) -> None:
    with dynamodb_calls() as metering:
        for _ in range(20):
            assert outsider.get("/health/ready").status_code == 200
    assert metering.operations == ["GetItem"]


def test_an_answer_does_not_count_for_long(outsider: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    outsider.get("/health/ready")
    later = time.monotonic() + readiness.ANSWER_COUNTS_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with dynamodb_calls() as metering:
        outsider.get("/health/ready")
    assert metering.calls == 1


@pytest.mark.parametrize("kind", [Fault.THROTTLE, Fault.ERROR, Fault.TIMEOUT, Fault.REFUSED])
def test_it_is_not_ready_while_the_database_fails_and_ready_right_after(outsider: Client, kind: Fault) -> None:
    with outage(kind):
        answer = outsider.get("/health/ready")
        body = problem(answer, 503, "unavailable")
        assert outsider.get("/health").status_code == 200
    assert int(answer.headers["Retry-After"]) > 0
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert outsider.get("/health/ready").status_code == 200


def test_health_itself_asks_nothing_of_the_database(outsider: Client) -> None:
    with dynamodb_calls() as metering:
        outsider.get("/health")
    assert metering.calls == 0
