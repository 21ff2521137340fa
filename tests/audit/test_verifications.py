"""What a check of the trail has found is recorded in the trail."""

from typing import Any

import pytest

from apps.audit.seals.checking import Finding, Tampering, Verification
from apps.audit.services.verifications import verification_record
from tests.audit.trail import whole

pytestmark = pytest.mark.usefixtures("tables")


@pytest.mark.parametrize(
    ("result", "is_whole", "outcome", "detail"),
    [
        (Verification([], None, 5, 0), True, "ok", {"checked": "the whole trail", "records": 5}),
        (
            Verification([Finding(Tampering.EDITED, "x was edited."), Finding(Tampering.SEAL, "y")], None, 5, 0),
            False,
            "changed",
            {"checked": "a part of the trail", "first_finding": "x was edited."},
        ),
    ],
)
def test_a_check_is_recorded_with_its_outcome_and_its_first_finding(
    result: Verification, is_whole: bool, outcome: str, detail: dict[str, Any]
) -> None:
    verification_record(result, is_whole=is_whole)
    (found,) = whole(target="audit:seals")
    assert (found.action, found.actor_kind, found.result) == ("audit.verified", "system", outcome)
    assert detail.items() <= found.detail.items()
