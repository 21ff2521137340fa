"""Fields of DRF serializers for requests: as strict as our own JSON, with messages in our own grammar.

Every message about a field says "must be …" or "must have …". DRF has no setting for its messages: a field merges the
`default_error_messages` of its classes when it is made. So this module replaces them on DRF's own classes, before a
serializer that imports its fields from here is declared.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from rest_framework import serializers

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# RFC 3339, whose fractions of a second Python reads to the microsecond.
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
# The grammar of JSON. Python's own number parser also accepts underscores and the digits of any script.
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")

_MESSAGES: dict[type[serializers.Field], dict[str, str]] = {  # type: ignore[type-arg]
    serializers.Field: {"required": "must be given", "null": "must not be null"},
    serializers.BooleanField: {"invalid": "must be true or false"},
    serializers.CharField: {
        "invalid": "must be a text",
        "blank": "must not be empty",
        "max_length": "must have at most {max_length} characters",
        "min_length": "must have at least {min_length} characters",
    },
    serializers.RegexField: {"invalid": "must match the pattern in the API document"},
    serializers.IntegerField: {
        "invalid": "must be a whole number",
        "max_value": "must be at most {max_value}",
        "min_value": "must be at least {min_value}",
        "max_string_length": "must be a whole number of fewer digits",
    },
    serializers.DateTimeField: {
        "invalid": "must be a date and time with its time zone, as 2027-01-31T12:00:00Z",
        "date": "must be a date and time, not a date alone",
        "make_aware": "must have a time zone",
        "overflow": "must be a date and time between the years 1 and 9999",
    },
    serializers.ListField: {
        "not_a_list": "must be a list",
        "empty": "must not be empty",
        "max_length": "must have at most {max_length} entries",
        "min_length": "must have at least {min_length} entries",
    },
    serializers.DictField: {
        "not_a_dict": "must be an object",
        "empty": "must not be empty",
        "max_entries": "must have at most {max_entries} members",
    },
    serializers.JSONField: {"invalid": "must be JSON"},
    serializers.Serializer: {"invalid": "must be an object"},
}

for _field, _messages in _MESSAGES.items():
    _field.default_error_messages = {**getattr(_field, "default_error_messages", {}), **_messages}


class DayField(serializers.DateField):
    """A day in UTC. DRF's own field also accepts weeks and days without hyphens."""

    def to_internal_value(self, value: Any) -> date:
        try:
            if isinstance(value, str) and _DAY.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        raise serializers.ValidationError("must be a day, as 2026-11-21", code="invalid")


class DayOrMomentField(serializers.DateTimeField):
    """A day in UTC (``date``), or a moment of RFC 3339 with its time zone (``datetime``)."""

    # How drf-spectacular's decorator `extend_schema_field` says what the field accepts.
    _spectacular_annotation: ClassVar = {
        "field": {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
    }

    def to_internal_value(self, value: Any) -> Any:
        try:
            if isinstance(value, str) and _DAY.fullmatch(value):
                return date.fromisoformat(value)
            if isinstance(value, str) and _MOMENT.fullmatch(value):
                return datetime.fromisoformat(value).astimezone(UTC)
        except (OverflowError, ValueError):
            pass
        raise serializers.ValidationError("must be a day, as 2026-11-21, or a time, as 2026-11-21T09:30:00Z", "invalid")


class TextField(serializers.CharField):
    """A JSON string, unchanged. DRF's own field also accepts numbers and strips white space."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class WholeNumberField(serializers.IntegerField):
    """A JSON number without a fraction; in a query, its digits. DRF's own field also accepts "1.0", "1_0" and "١"."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and self.context.get("from_query") and _WHOLE_NUMBER.fullmatch(data):
            data = int(data)
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class ChoiceField(serializers.ChoiceField):
    """One of several texts. Its message lists them."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices=choices, **options)
        self.error_messages["invalid_choice"] = f"must be one of {', '.join(choices)}"


class FlagField(serializers.BooleanField):
    """A JSON boolean; or whether a query has a parameter: ``?flag``, ``?flag=true`` and ``?flag=1`` say so."""

    def to_internal_value(self, data: Any) -> bool:
        is_named = data == "" and self.context.get("from_query")
        return True if is_named else bool(super().to_internal_value(data))


class ListField(serializers.ListField):
    """A list of at most `max_length` values. DRF's own field checks every value before it counts them."""

    def __init__(self, *, child: serializers.Field[Any, Any, Any, Any], max_length: int, **options: Any) -> None:
        super().__init__(child=child, max_length=max_length, **options)
        self._most = max_length

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > self._most:
            self.fail("max_length", max_length=self._most)
        return list(super().to_internal_value(data))


class DictField(serializers.DictField):
    """An object of at most `max_entries` members of any name. DRF's own field has no such limit."""

    def __init__(self, *, child: serializers.Field[Any, Any, Any, Any], max_entries: int, **options: Any) -> None:
        super().__init__(child=child, **options)
        self.max_entries = max_entries

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and len(data) > self.max_entries:
            self.fail("max_entries", max_entries=self.max_entries)
        return dict(super().to_internal_value(data))
