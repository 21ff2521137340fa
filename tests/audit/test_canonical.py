"""The canonical form of an event: one form for ever, of all that is stored, whatever a version knows of it."""

import hashlib
import json
from typing import Any

import pytest

from apps.audit.canonical import canonical_bytes, canonical_record, leaf_hash
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from tests.audit.trail import event, write


def test_the_form_is_that_of_rfc_8785() -> None:
    item: dict[str, dict[str, Any]] = {
        "target": {"S": 'pipeline:"ü"\n\u2028\x7f'},
        "action": {"S": "pipeline.saved"},
        "n": {"N": "5"},
    }
    expected = '{"action":"pipeline.saved","n":{"N":"5"},"target":"pipeline:\\"ü\\"\\n\u2028\x7f"}'
    assert canonical_bytes(canonical_record(item)) == expected.encode()


def test_the_order_of_attributes_and_of_a_sets_members_makes_no_difference() -> None:
    one: dict[str, dict[str, Any]] = {"a": {"S": "1"}, "b": {"SS": ["x", "y"]}, "c": {"BS": [b"\x01", b"\x02"]}}
    two: dict[str, dict[str, Any]] = {"c": {"BS": [b"\x02", b"\x01"]}, "b": {"SS": ["y", "x"]}, "a": {"S": "1"}}
    assert canonical_bytes(canonical_record(one)) == canonical_bytes(canonical_record(two))


def test_a_text_and_another_value_never_have_the_same_form() -> None:
    values: list[dict[str, Any]] = [
        {"S": "5"},
        {"N": "5"},
        {"S": '{"N":"5"}'},
        {"NULL": True},
        {"BOOL": True},
        {"S": "true"},
        {"B": b"5"},
    ]
    values += [{"L": [{"S": "5"}]}, {"L": [{"N": "5"}]}, {"M": {"N": {"S": "5"}}}, {"SS": ["5"]}, {"NS": ["5"]}]
    assert len({canonical_bytes(canonical_record({"a": value})) for value in values}) == len(values)


@pytest.mark.usefixtures("tables")
def test_an_attribute_of_a_later_version_is_covered_and_an_event_read_back_has_the_form_of_its_item() -> None:
    write([event(detail={"git_ref": "main", "ü": 'x"'})])
    (record,) = audit_list(day=clock.timestamp(clock.now())[:10]).records
    assert record.stored is not None
    form = canonical_record(record.stored)
    assert json.loads(form["detail"]) == {"git_ref": "main", "ü": 'x"'}
    assert form.keys() == record.serialize().keys()
    later = AuditRecord.from_raw_data({**record.stored, "invented": {"S": "later"}})
    assert later.stored is not None
    assert canonical_record(later.stored)["invented"] == "later"
    assert leaf_hash(form) != leaf_hash(canonical_record(later.stored))
    assert leaf_hash(form) == hashlib.sha256(b"\x00" + canonical_bytes(form)).digest()
