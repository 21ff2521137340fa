"""Tables of fields: the errors of their checks, and their schemas in the API document."""

import re
from typing import Any

import jsonschema
import pytest

from controlplane.http.fields import (
    LARGEST,
    Choice,
    Field,
    Flag,
    ListOf,
    MapOf,
    Number,
    Object,
    Text,
    Time,
    WholeNumber,
    described,
    nullable,
    optional,
)
from controlplane.lib.errors import InvalidInput

STATE = Choice(("running", "ended"))
NAME = Text(pattern=re.compile("[a-z]{1,3}"), form="1 to 3 small letters")
STEP = Object(
    "Step", "A step.", {"name": Text(5, empty=False), "state": STATE, "code": optional(WholeNumber(-1, 9), null=True)}
)
JOB = Object(
    "Job",
    "A job.",
    {
        "steps": optional(ListOf(STEP, 2), default=[]),
        "slots": optional(WholeNumber(0, 64, about="How many."), default=1),
        "env": optional(MapOf(Text())),
        "next": nullable(STEP),
    },
)


def refusal(field: Field, value: Any, path: str = "field") -> dict[str, Any]:
    with pytest.raises(InvalidInput) as caught:
        field.check(value, path)
    (error,) = caught.value.errors
    return dict(error)


def inline(table: Object) -> dict[str, Any]:
    """The table's schema with its nested schemas inline."""
    return table.component(inline)


# A field, its error message, and the values that it refuses.
REFUSED: list[tuple[Field, str, list[Any]]] = [
    (WholeNumber(0, 10), "must be a whole number from 0 to 10", [-1, 11, 1.0, True, "1", None, []]),
    (
        Number(0, 100),
        "must be a number from 0 to 100",
        [-0.1, 100.1, float("nan"), float("inf"), True, "1", None],
    ),
    (Text(), "must be a text", [None, 5, ["a"], {}]),
    (Text(64), "must have at most 64 characters", ["x" * 65]),
    (Text(64, empty=False), "must not be empty", [""]),
    (NAME, "must be 1 to 3 small letters", [None, 5, "", "A", "abcd", "ab\n"]),
    (STATE, "must be one of running, ended", [None, "", "paused", ["running"]]),
    (Flag(), "must be true or false", [None, 0, "true"]),
    (
        Time(),
        "must be a date and time with its time zone, as in RFC 3339",
        [None, 5, "", "yesterday", "2026-11-21T09:00:00", "0001-01-01T00:00:00+23:59"],
    ),
    (ListOf(Flag()), "must be a list", [None, {}, "ab"]),
    (ListOf(Flag(), 2), "must have at most 2 entries", [[True] * 3]),
    (MapOf(Flag()), "must be an object", [None, [], "a"]),
    (STEP, "must be an object", [None, [], "a"]),
]


@pytest.mark.parametrize(
    ("field", "message", "value"), [(field, message, value) for field, message, values in REFUSED for value in values]
)
def test_an_invalid_value_is_refused_in_one_grammar(field: Field, message: str, value: Any) -> None:
    assert refusal(field, value) == {"field": "field", "message": message}


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({}, "next", "must be an object"),
        ({"next": {}}, "next.name", "must be a text"),
        ({"next": None, "slots": None}, "slots", "must be a whole number from 0 to 64"),
        ({"next": None, "env": {"A": 1}}, "env.A", "must be a text"),
        ({"next": None, "steps": ["x"]}, "steps[0]", "must be an object"),
        (
            {"next": None, "steps": [{"name": "a", "state": "ended"}, {"name": "b", "state": "odd"}]},
            "steps[1].state",
            "must be one of running, ended",
        ),
    ],
)
def test_the_path_of_the_field_is_named(value: dict[str, Any], path: str, message: str) -> None:
    assert refusal(JOB, value, "") == {"field": path, "message": message}


def test_missing_members_get_their_defaults_and_unknown_ones_are_ignored() -> None:
    first, second = JOB.check({"next": None, "colour": "red"}), JOB.check({"next": None})
    assert first == second == {"steps": [], "slots": 1, "env": None, "next": None}
    assert first["steps"] is not second["steps"]


def test_values_are_unchanged_except_for_rounding_and_the_form_of_times() -> None:
    assert Number(0, 100).check(12.34, "") == 12.3
    assert WholeNumber().check(LARGEST, "") == LARGEST
    assert Time().check("2026-11-21T10:00:00.25+01:00", "") == "2026-11-21T09:00:00.250000Z"
    step = {"name": " a ", "state": "ended", "code": None}
    assert STEP.check(step) == step


def test_the_schema_agrees_with_the_check() -> None:
    step = {
        "type": "object",
        "description": "A step.",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 5},
            "state": {"type": "string", "enum": ["running", "ended"]},
            "code": {"type": ["integer", "null"], "minimum": -1, "maximum": 9},
        },
        "required": ["name", "state"],
    }
    reference = {"$ref": "#/components/schemas/Step"}
    assert STEP.component(inline) == step
    assert JOB.component(lambda _: reference) == {
        "type": "object",
        "description": "A job.",
        "properties": {
            "steps": {"type": "array", "items": reference, "maxItems": 2, "default": []},
            "slots": {"type": "integer", "minimum": 0, "maximum": 64, "description": "How many.", "default": 1},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "next": {"oneOf": [reference, {"type": "null"}]},
        },
        "required": ["next"],
    }
    assert described(nullable(Choice(("a",))).field, inline) == {"type": "string", "enum": ["a"]}
    assert Object("A", "", {"a": nullable(Choice(("a",)))}).component(inline)["properties"]["a"] == {
        "type": ["string", "null"],
        "enum": ["a", None],
    }


@pytest.mark.parametrize(
    "value",
    [
        {"next": None},
        {"next": {"name": "a", "state": "ended"}, "slots": 64, "env": {"A": ""}},
        {},
        {"next": {}},
        {"next": None, "slots": 65},
        {"next": None, "slots": None},
        {"next": None, "steps": None},
        {"next": None, "steps": [{"name": "", "state": "ended"}]},
        {"next": None, "steps": [{"name": "a", "state": "ended", "code": 10}]},
        {"next": None, "steps": [{"name": "a", "state": "ended", "code": None}] * 3},
        {"next": None, "env": {"A": 1}},
        {"next": None, "unknown": True},
    ],
)
def test_the_check_and_a_validator_of_the_schema_agree(value: dict[str, Any]) -> None:
    fits = jsonschema.Draft202012Validator(JOB.component(lambda table: table.component(inline))).is_valid(value)
    if fits:
        JOB.check(value)
    else:
        refusal(JOB, value, "")
