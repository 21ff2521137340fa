"""Retention by action: what expires when."""

from datetime import timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.canonical import canonical_record
from apps.audit.models import AuditRecord
from apps.audit.retention import retention_days
from controlplane.lib import clock
from tests.audit.sealed import copies_clear, good, sealed_trail, verified
from tests.audit.trail import event, whole, write

JOB = "job:01kjob0000000000000000000a"


@pytest.fixture(autouse=True)
def _tables(tables: None) -> None:
    """Empty tables."""


@pytest.fixture
def retention(settings: Any) -> None:
    settings.AUDIT_RETENTION = {"job.": "100", "job.created": "40"}


def days_kept(action: Action) -> int | None:
    found = event(action=action)
    if found.expires_at is None:
        return None
    return (found.expires_at - clock.parse_timestamp(found.at) + timedelta(seconds=1)).days


def test_without_the_setting_every_event_is_kept_for_ever() -> None:
    assert {days_kept(action) for action in Action} == {None}
    assert "expires_at" not in event().serialize()


@pytest.mark.usefixtures("retention")
def test_events_expire_by_the_longest_beginning_of_their_action_and_others_never() -> None:
    assert days_kept(Action.JOB_CREATED) == 40
    assert days_kept(Action.JOB_FINISHED) == 100
    assert days_kept(Action.USER_SIGNED_IN) is None


@pytest.mark.usefixtures("retention")
def test_the_time_of_expiry_is_part_of_what_a_seal_covers() -> None:
    (written,) = write([event(action=Action.JOB_CREATED)])
    (read,) = whole(action=Action.JOB_CREATED)
    assert canonical_record(read.stored)["expires_at"] == {"N": str(int(written.expires_at.timestamp()))}


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"job.": "29"}, "30 to 36500 days for job."),
        ({"job.": "ever"}, "30 to 36500 days for job."),
        ({"jobs.": "100"}, "none begins with jobs."),
        ({"audit.": "100"}, "the trail itself"),
        ({"": "100"}, "the trail itself"),
        ({"report.signed_off": "100"}, "the trail itself"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(setting: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        retention_days(setting)


@pytest.mark.usefixtures("retention")
def test_expired_events_are_no_finding_of_a_check_and_deleted_ones_are(settings: Any) -> None:
    (short, *_) = sealed_trail([2, 1])
    AuditRecord(short.day, short.entry).delete()
    # What was sealed counts, and not what the setting says now.
    settings.AUDIT_RETENTION = {}
    with clock.shifted(timedelta(days=45)):
        assert (good().expired, good().records) == (1, 2)
    with clock.shifted(timedelta(days=35)):
        assert [finding.kind for finding in verified().findings] == ["deleted"]
    copies_clear()
