"""The report "Integrity of the trail": the seals of each day, and what checks have found."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.models import SealRecord
from apps.audit.selectors.seals import CHECKED, seal_find, trusted_keys
from apps.audit.selectors.verification import trail_verify
from apps.audit.services.verifications import verification_record
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.audit.sealed import copies_clear, seal_now, sealed_trail
from tests.audit.test_verification import delete, put, seal_row
from tests.audit.trail import event, write
from tests.dashboard.conftest import SignedIn
from tests.dashboard.reported import days_ago, made, report
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    copies_clear()
    yield
    copies_clear()


@pytest.fixture
def trail() -> None:
    """Seals 1 and 2 of four days ago, and seal 3 of two days ago, with a check of the whole trail behind it."""
    with days_ago(4):
        sealed_trail([3, 1])
    with days_ago(2):
        sealed_trail([2])
        verification_record(trail_verify(trusted=trusted_keys()), is_whole=True)


def digest(number: int) -> str:
    seal = seal_find(number)
    assert seal
    return seal.statement.digest


def shown(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


@pytest.mark.usefixtures("trail")
def test_it_has_the_seals_of_each_day_with_the_digest_of_the_last_one_and_each_check() -> None:
    with days_ago(2, hour=13):
        assert seal_now() == 1
    days = [(clock.now() - timedelta(days=number)).date().isoformat() for number in (4, 3, 2, 1)]
    rows = made("integrity", 5, until=1)
    assert shown(rows, "Day or time", "Result", "Seals", "Events", "Digest")[:-1] == [
        (days[0], "sealed", "1 to 2", 4, digest(2)),
        (days[1], "no event", None, 0, None),
        (days[2], "sealed", "3 to 4", 3, digest(4)),
        (days[3], "no event", None, 0, None),
    ]
    check = rows[-1]
    assert check["Day or time"].startswith(f"{days[2]}T12:")
    assert shown([check], "What", "Result", "Seals", "Events", "Digest", "Remark") == [
        ("Check of the whole trail", "as it was sealed", "up to 3", 6, digest(3), None)
    ]


@pytest.mark.usefixtures("trail")
def test_it_says_what_the_last_check_before_the_period_has_found() -> None:
    (*_, check) = made("integrity", 1)
    assert (check["What"], check["Result"]) == ("Last check of the whole trail, before the period", "as it was sealed")


def test_it_says_that_there_was_no_check_and_since_when_events_wait_for_their_seal() -> None:
    with days_ago(2):
        write([event()])
    assert shown(made("integrity"), "What", "Result") == [("Not sealed yet", "waiting"), ("Check", "none")]
    with days_ago(2):
        seal_now()
    with days_ago(1):
        write([event()])
    rows = made("integrity")
    assert [row["Result"] for row in rows] == ["sealed", "no event", "waiting", "none"]
    seal = seal_find(1)
    assert seal
    assert rows[2]["Up to"] == seal.statement.through


@pytest.mark.usefixtures("trail")
def test_it_names_a_seal_that_is_missing_or_damaged() -> None:
    row = seal_row(SealRecord, 2)
    for damage in ({**row, "statement": {"S": row["statement"]["S"].replace('"late":0', '"late":1 ')}}, None):
        if damage:
            put(SealRecord, damage)
        else:
            delete(SealRecord, row)
        found = made("integrity", 5)
        assert found[0]["Result"] == "missing or damaged"
        assert found[0]["Remark"] == "Seal 2 is missing or damaged. Run manage.py audit_verify."
    head = seal_row(SealRecord, 3)
    put(SealRecord, {**head, "statement": {"N": "1"}})
    assert report("integrity", 5).seal.startswith("it cannot be read")
    rows = made("integrity", 5)
    remarks = {row["Remark"] for row in rows if row["Result"] == "missing or damaged"}
    assert "Seal 3 is missing or damaged. Run manage.py audit_verify." in remarks


@pytest.mark.usefixtures("trail")
def test_it_says_if_the_seal_of_a_check_is_another_one_now() -> None:
    write(
        [
            event(CHECKED, actor=SYSTEM, action=Action.AUDIT_VERIFIED, detail={"seal": 2, "digest": digest(2)}),
            event(CHECKED, actor=SYSTEM, action=Action.AUDIT_VERIFIED, detail={"seal": 2, "digest": "0" * 64}),
            event(
                CHECKED,
                actor=SYSTEM,
                action=Action.AUDIT_VERIFIED,
                result="changed",
                detail={"seal": 9, "digest": "0" * 64, "first_finding": "Seal 9 was edited."},
            ),
        ]
    )
    rows = [row for row in made("integrity", 0) if row["What"].startswith("Check")]
    assert shown(rows, "Result", "Remark") == [
        ("as it was sealed", None),
        ("as it was sealed", "Now, seal 2 is another one."),
        ("something was changed", "Seal 9 was edited. Now, seal 9 is another one."),
    ]


@pytest.mark.usefixtures("trail")
def test_a_year_of_it_costs_few_calls() -> None:
    with dynamodb_calls() as counted:
        assert len(made("integrity", 365)) == 6
    assert counted.calls < 60


@pytest.mark.usefixtures("trail")
def test_it_is_shown_in_tables_that_say_what_they_do_not_prove(signed_in: SignedIn) -> None:
    page = signed_in("auditor").get("/dashboard/reports/integrity")
    assert page.status_code == 200
    assert digest(3) in page.text
    assert "audit_verify checks each seal and each event" in page.text
