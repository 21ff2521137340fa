"""Messages about a field have one grammar, whichever library makes them."""

import re
from typing import Any

import pytest
from rest_framework import serializers

from apps.accounts.serializers.sessions import SessionCreateSerializer
from apps.accounts.serializers.tokens import TokenCreateSerializer
from apps.agents.serializers.agents import AgentListQuerySerializer, EnrolmentSerializer
from apps.jobs.serializers.jobs import JobCreateSerializer, JobListQuerySerializer
from apps.pipelines.serializers import PipelineListQuerySerializer, PipelineSaveSerializer
from controlplane.http.drf_errors import drf_error
from controlplane.http.drf_fields import DictField, ListField

REQUESTS: list[type[serializers.Serializer[Any]]] = [
    AgentListQuerySerializer,
    EnrolmentSerializer,
    JobCreateSerializer,
    JobListQuerySerializer,
    PipelineListQuerySerializer,
    PipelineSaveSerializer,
    SessionCreateSerializer,
    TokenCreateSerializer,
]
WRONG: list[Any] = [None, "", "\n", "x" * 5000, -1, 10**30, 1.5, True, [], [None], ["x"] * 500, {}, {"a": {"b": None}}]

GRAMMAR = re.compile(r"(.+ )?must (not )?(be|have|match|begin)\b.*[^.]|.*is already taken")


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_message_says_what_the_field_must_be(kind: type[serializers.Serializer[Any]]) -> None:
    messages = set()
    for value in WRONG:
        for body in ({}, dict.fromkeys(kind().fields, value)):
            serializer = kind(data=body)
            if not serializer.is_valid():
                error = drf_error(serializers.ValidationError(serializer.errors))
                assert error is not None
                messages |= {found["message"] for found in error.errors}
    assert messages
    assert [message for message in sorted(messages) if not GRAMMAR.fullmatch(message)] == []


class Counted(serializers.Field[Any, Any, Any, Any]):
    """A field that counts how often it checks a value."""

    checked = 0

    def to_internal_value(self, data: Any) -> Any:
        Counted.checked += 1
        return data


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (ListField(child=Counted(), max_length=3), [1] * 4),
        (DictField(child=Counted(), max_entries=3), dict.fromkeys("abcd")),
    ],
)
def test_lists_and_objects_are_measured_before_their_elements_are_checked(field: Any, value: Any) -> None:
    Counted.checked = 0
    with pytest.raises(serializers.ValidationError, match="must have at most 3"):
        field.run_validation(value)
    assert Counted.checked == 0


@pytest.mark.parametrize("kind", REQUESTS)
def test_every_list_and_object_of_a_request_is_measured(kind: type[serializers.Serializer[Any]]) -> None:
    for name, field in kind().fields.items():
        if isinstance(field, serializers.ListField | serializers.DictField):
            assert isinstance(field, ListField | DictField), name


def test_at_most_twenty_errors_are_converted() -> None:
    wrong: Any = {number: ["must be a text"] for number in range(1000)}
    error = drf_error(serializers.ValidationError({"labels": wrong}))
    assert error is not None
    assert [found["field"] for found in error.errors] == [f"labels[{number}]" for number in range(20)]
