"""Templates, and an emulator of the AWS services that a stage uses."""

import itertools
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from tests.emulator import running_emulator

SERVICES = "apigateway,apigatewayv2,cloudformation,cloudwatch,dynamodb,iam,kms,lambda,logs,monitoring,s3,sns,sts"

Body = dict[str, Any]


@pytest.fixture(scope="session", params=["staging", "production"])
def stage_body(request: pytest.FixtureRequest) -> Body:
    """The template of each stage."""
    body: Body = stage_template(STAGES[request.param]).to_dict()
    return body


@pytest.fixture(scope="session")
def production() -> Body:
    body: Body = stage_template(STAGES["production"]).to_dict()
    return body


@pytest.fixture(scope="session")
def staging() -> Body:
    body: Body = stage_template(STAGES["staging"]).to_dict()
    return body


def of_type(body: Body, kind: str) -> dict[str, Body]:
    """The properties of the template's resources of this type, by logical id."""
    return {
        logical_id: resource.get("Properties", {})
        for logical_id, resource in body["Resources"].items()
        if resource["Type"] == kind
    }


@pytest.fixture(scope="session")
def _aws() -> Iterator[str]:
    with running_emulator(SERVICES) as url:
        yield url


_accounts = itertools.count(1)


@pytest.fixture
def aws(_aws: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The number of an empty account. The emulator takes it from the id of the access key."""
    account = f"{next(_accounts):012}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", _aws)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", account)
    return account


def infrastructure(*arguments: str) -> str:
    """The output of `manage.py infrastructure`. Raises CommandError, and SystemExit for exit code 2."""
    output = StringIO()
    call_command("infrastructure", *arguments, stdout=output)
    return output.getvalue()
