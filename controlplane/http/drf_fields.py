"""Fields of DRF serializers for requests: as strict as our own JSON, with messages in our own grammar.

Every message about a field says "must be …" or "must have …". DRF has no setting for its messages: a field merges the
`default_error_messages` of its classes when it is made. So this module replaces them on DRF's own classes, before a
serializer that imports its fields from here is declared.
"""

import re
from collections.abc import Sequence
from typing import Any

from rest_framework import serializers

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
    serializers.DictField: {"not_a_dict": "must be an object", "empty": "must not be empty"},
    serializers.JSONField: {"invalid": "must be JSON"},
    serializers.Serializer: {"invalid": "must be an object"},
}

for _field, _messages in _MESSAGES.items():
    _field.default_error_messages = {**getattr(_field, "default_error_messages", {}), **_messages}


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
