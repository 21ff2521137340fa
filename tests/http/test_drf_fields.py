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
