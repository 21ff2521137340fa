"""Signing off a report: the service behind the page."""

import pytest

from apps.audit.services.sign_offs import report_sign_off
from controlplane.lib.errors import Forbidden, InvalidInput
from tests.audit.trail import whole
from tests.conftest import ADMIN, OPERATOR

pytestmark = pytest.mark.usefixtures("tables")
WHAT = {"report": "access", "first": "2026-11-01", "last": "2026-11-30", "digest": "d" * 64, "rows": 3}


def test_a_sign_off_is_an_event_with_the_days_and_the_digest() -> None:
    report_sign_off(actor=ADMIN, **WHAT, comment="x" * 200)  # type: ignore[arg-type]
    (found,) = whole(target="report:access")
    assert (found.action, found.actor_name, found.result) == ("report.signed_off", "admin", "ok")
    assert found.detail == {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "sha256": "d" * 64,
        "rows": 3,
        "comment": "x" * 200,
    }


def test_only_those_who_may_read_the_trail_sign_off_with_a_comment_that_it_keeps_whole() -> None:
    with pytest.raises(Forbidden):
        report_sign_off(actor=OPERATOR, **WHAT)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="comment"):
        report_sign_off(actor=ADMIN, **WHAT, comment="x" * 201)  # type: ignore[arg-type]
    assert whole(target="report:access") == []
