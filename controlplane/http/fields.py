"""Tables of fields: the members of a JSON object, declared once, for its check and for the API document.

    HEARTBEAT = Object(
        "Heartbeat",
        "How the agent is.",
        {
            "cpu_percent": Number(0, 100, places=1),
            "free_slots": optional(WholeNumber(0, 64), default=0),
            "timeout": nullable(WholeNumber()),
        },
    )

    HEARTBEAT.check(json_body(request))   # the members as Python has them, or InvalidInput that names the field
    @extend_schema(request=HEARTBEAT)     # `controlplane.http.openapi` makes a component of it

This is for the busiest endpoints: it imports neither DRF nor drf-spectacular.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any

from controlplane.lib import clock
from controlplane.lib.errors import InvalidInput
from controlplane.lib.frozen import frozen

Json = dict[str, Any]
# The schema of a nested object, usually a reference to its component.
ObjectSchema = Callable[["Object"], Json]

# The largest whole number that every reader of JSON keeps exactly.
LARGEST = 2**53


class Field:
    """One value. `about` explains it in the API document."""

    about: str = ""

    def check(self, value: Any, path: str) -> Any:
        """The value as Python has it. Raises InvalidInput that names `path`, such as ``running[0].attempt``."""
        raise NotImplementedError

    def schema(self, object_schema: ObjectSchema) -> Json:
        """The value as JSON Schema, without `about`."""
        raise NotImplementedError


@frozen
class WholeNumber(Field):
    """A number without a fraction, from `least` to `most`."""

    least: int = 0
    most: int = LARGEST
    _: KW_ONLY
    about: str = ""

    def check(self, value: Any, path: str) -> int:
        # A bool is an int in Python, but not in JSON.
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise InvalidInput.field(path, f"must be a whole number from {self.least} to {self.most}")
        return value

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@frozen
class Number(Field):
    """A number from `least` to `most`, kept to so many decimal `places`."""

    least: int = 0
    most: int = LARGEST
    _: KW_ONLY
    places: int = 1
    about: str = ""

    def check(self, value: Any, path: str) -> int | float:
        # A comparison with NaN is false.
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.least <= value <= self.most:
            raise InvalidInput.field(path, f"must be a number from {self.least} to {self.most}")
        return round(value, self.places)

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@frozen
class Text(Field):
    """A text of at most `longest` characters, with `empty` false at least one; with `pattern`, all of it matches that.

    `form` describes the pattern in a message, as in "must be <a job's id>".
    """

    longest: int | None = None
    _: KW_ONLY
    empty: bool = True
    pattern: re.Pattern[str] | None = None
    form: str = ""
    about: str = ""

    def check(self, value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise InvalidInput.field(path, f"must be {self.form or 'a text'}")
        if not value and not self.empty:
            raise InvalidInput.field(path, "must not be empty")
        if self.longest is not None and len(value) > self.longest:
            raise InvalidInput.field(path, f"must have at most {self.longest} characters")
        if self.pattern is not None and not self.pattern.fullmatch(value):
            raise InvalidInput.field(path, f"must be {self.form}")
        return value

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {
            "type": "string",
            **({} if self.empty else {"minLength": 1}),
            **({"maxLength": self.longest} if self.longest is not None else {}),
            **({"pattern": f"^{self.pattern.pattern}$"} if self.pattern is not None else {}),
        }


@frozen
class Choice(Field):
    """One of a few texts."""

    values: tuple[str, ...]
    about: str = ""

    def check(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in self.values:
            raise InvalidInput.field(path, f"must be one of {', '.join(self.values)}")
        return value

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {"type": "string", "enum": list(self.values)}


@frozen
class Flag(Field):
    """True or false."""

    about: str = ""

    def check(self, value: Any, path: str) -> bool:
        if not isinstance(value, bool):
            raise InvalidInput.field(path, "must be true or false")
        return value

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {"type": "boolean"}


@frozen
class Time(Field):
    """A date and time with its time zone; checked, it is a timestamp as `controlplane.lib.clock` writes it."""

    about: str = ""

    def check(self, value: Any, path: str) -> str:
        try:
            moment = clock.parse_timestamp(value)
            if moment.tzinfo is not None:
                return clock.timestamp(moment)
        except (TypeError, ValueError, OverflowError):
            # The first and the last day there are overflow in another time zone.
            pass
        raise InvalidInput.field(path, "must be a date and time with its time zone, as in RFC 3339")

    def schema(self, object_schema: ObjectSchema) -> Json:  # noqa: ARG002
        return {"type": "string", "format": "date-time"}


@frozen
class ListOf(Field):
    """A list of at most `most` values."""

    item: Field
    most: int | None = None
    _: KW_ONLY
    about: str = ""

    def check(self, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise InvalidInput.field(path, "must be a list")
        if self.most is not None and len(value) > self.most:
            raise InvalidInput.field(path, f"must have at most {self.most} entries")
        check = self.item.check
        return [check(entry, f"{path}[{number}]") for number, entry in enumerate(value)]

    def schema(self, object_schema: ObjectSchema) -> Json:
        limit = {} if self.most is None else {"maxItems": self.most}
        return {"type": "array", "items": described(self.item, object_schema), **limit}


@frozen
class MapOf(Field):
    """An object with members of any name and one kind of value."""

    value: Field
    about: str = ""

    def check(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidInput.field(path, "must be an object")
        return {name: self.value.check(inner, f"{path}.{name}") for name, inner in value.items()}

    def schema(self, object_schema: ObjectSchema) -> Json:
        return {"type": "object", "additionalProperties": described(self.value, object_schema)}


@frozen
class Member:
    """A member of an object that may be missing (unless `required`) or null; `default` then takes its place."""

    field: Field
    required: bool
    null: bool
    default: Any


def optional(field: Field, *, default: Any = None, null: bool = False) -> Member:
    """A member that may be missing, with `null` also null; the check then gives `default` for it."""
    return Member(field, required=False, null=null, default=default)


def nullable(field: Field) -> Member:
    """A member that may be null, but not missing."""
    return Member(field, required=True, null=True, default=None)


def _required(declared: Field | Member) -> Member:
    """A member that is declared by its field alone may be neither missing nor null."""
    return declared if isinstance(declared, Member) else Member(declared, required=True, null=False, default=None)


class Object(Field):
    """A JSON object; `name` is that of its component in the API document. Members that are not named are ignored."""

    def __init__(self, name: str, about: str, members: Mapping[str, Field | Member]) -> None:
        self.name = name
        self.about = about
        self.members = {member: _required(declared) for member, declared in members.items()}
        self._checks = [
            (member, f".{member}", declared.field.check, declared.required, declared.null, declared.default)
            for member, declared in self.members.items()
        ]

    def check(self, value: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidInput.field(path, "must be an object")
        checked = {}
        for name, suffix, check, required, null, default in self._checks:
            given = value.get(name)
            if given is None and (null if name in value else not required):
                checked[name] = copy.copy(default)
            else:
                # A missing required member gets the message for null.
                checked[name] = check(given, path + suffix if path else name)
        return checked

    def schema(self, object_schema: ObjectSchema) -> Json:
        return object_schema(self)

    def component(self, object_schema: ObjectSchema) -> Json:
        """The object as JSON Schema. `object_schema` makes the schemas of nested objects."""
        return {
            "type": "object",
            "description": self.about,
            "properties": {name: _member_schema(member, object_schema) for name, member in self.members.items()},
            "required": sorted(name for name, member in self.members.items() if member.required),
        }


def described(field: Field, object_schema: ObjectSchema) -> Json:
    """The field's schema with its description."""
    schema = field.schema(object_schema)
    # A component carries its own description.
    return {**schema, "description": field.about} if field.about and "$ref" not in schema else schema


def _member_schema(member: Member, object_schema: ObjectSchema) -> Json:
    schema = described(member.field, object_schema)
    if member.null and "$ref" in schema:
        schema = {"oneOf": [schema, {"type": "null"}]}
    elif member.null:
        schema = {**schema, "type": [schema["type"], "null"]}
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema if member.default is None else {**schema, "default": member.default}
