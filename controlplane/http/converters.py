"""Converters for the parameters of paths."""

from django.urls import register_converter

from controlplane.lib.ids import ID_PATTERN, STORED_NAME_PATTERN


class IdConverter:
    """An identifier in the form of `controlplane.lib.ids`. A path with anything else is not found."""

    regex = ID_PATTERN

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class ArtifactConverter(IdConverter):
    """The id of an artifact, as `apps.jobs.models.Artifact` has it."""

    regex = f"{ID_PATTERN}-{ID_PATTERN}-[0-9]{{1,9}}-[0-9a-f]{{32}}"


class CacheConverter(IdConverter):
    """The id of a cache while it is sent: the job, the attempt and a digest."""

    regex = f"{ID_PATTERN}-[0-9]{{1,9}}-[0-9a-f]{{32}}"


class StoredNameConverter(IdConverter):
    """The name of a file with presigned URLs."""

    regex = STORED_NAME_PATTERN


class NumberConverter:
    """A whole number that DynamoDB can store."""

    regex = "[0-9]{1,9}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(ArtifactConverter, "artifact")
register_converter(CacheConverter, "cache")
register_converter(IdConverter, "id")
register_converter(NumberConverter, "number")
register_converter(StoredNameConverter, "stored_name")
