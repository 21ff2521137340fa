"""Ids that follow from what they are for."""

import re
from datetime import UTC, datetime

from controlplane.lib.ids import ID_PATTERN, derived_id, id_moment

MOMENT = datetime(2026, 11, 27, 6, 30, 0, 123000, tzinfo=UTC)


def test_a_derived_id_is_the_same_for_the_same_seed_and_has_the_time() -> None:
    made = derived_id(MOMENT, "run#1")
    assert made == derived_id(MOMENT, "run#1")
    assert (id_moment(made), bool(re.fullmatch(ID_PATTERN, made))) == (MOMENT, True)
    assert len({made, derived_id(MOMENT, "run#2"), derived_id(datetime(2027, 1, 1, tzinfo=UTC), "run#1")}) == 3
