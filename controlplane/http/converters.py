"""Converters for the parameters of paths."""

from django.urls import register_converter

from controlplane.lib.ids import ID_PATTERN


class IdConverter:
    """An identifier in the form of `controlplane.lib.ids`. A path with anything else is not found."""

    regex = ID_PATTERN

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class NumberConverter:
    """A whole number that DynamoDB can store."""

    regex = "[0-9]{1,9}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(IdConverter, "id")
register_converter(NumberConverter, "number")
