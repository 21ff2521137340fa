"""Templates, and an emulator of the AWS services that a stage uses."""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from controlplane.infrastructure import stack
from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from tests.emulator import running_emulator

# Of a test that deploys the stack.
DEPLOYS = pytest.mark.ministack("moto's Lambda does not know GetAccountSettings, which each deployment calls first")

SERVICES = (
    "apigateway,apigatewayv2,cloudformation,cloudwatch,dynamodb,iam,kms,lambda,logs,monitoring,s3,secretsmanager,sns,"
    "sqs,ssm,sts"
)

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
def _aws_engines(_cloud_engines: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """The URL of moto, the same as for KMS and S3, or of ministack with SERVICES. Each starts when it is needed."""
    with ExitStack() as stack:
        ministack = functools.cache(lambda: stack.enter_context(running_emulator(SERVICES, engine="ministack")))
        yield lambda engine: _cloud_engines("moto") if engine == "moto" else ministack()


# The emulator's CloudFormation knows none of these.
_UNKNOWN = ("AWS::ApplicationAutoScaling::", "AWS::Budgets::")


@pytest.fixture(autouse=True)
def _what_the_emulator_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of a deployment what the emulator has no part for. Tests of the template see all of it."""

    def known(*arguments: Any, **options: Any) -> Any:
        template = stage_template(*arguments, **options)
        for name in [name for name, part in template.resources.items() if part.resource_type.startswith(_UNKNOWN)]:
            del template.resources[name]
        return template

    monkeypatch.setattr(stack, "stage_template", known)


_accounts = itertools.count(1)


@pytest.fixture
def aws(_aws_engines: Callable[[str], str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The number of an empty account. The emulator takes it from the id of the access key.

    It is moto's, or ministack's for a test with the mark `ministack`, which says what moto does not do.
    """
    account = f"{next(_accounts):012}"
    engine = "ministack" if request.node.get_closest_marker("ministack") else "moto"
    monkeypatch.setenv("AWS_ENDPOINT_URL", _aws_engines(engine))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", account)
    return account


def infrastructure(*arguments: str) -> str:
    """The output of `manage.py infrastructure`. Raises CommandError, and SystemExit for exit code 2."""
    output = StringIO()
    call_command("infrastructure", *arguments, stdout=output)
    return output.getvalue()
