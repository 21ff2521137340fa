"""A function with three versions and the stage's alarms. The emulator stores weights, but does not route by them."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from django.conf import settings

from controlplane.infrastructure.alarms import RELEASE_ALARMS, alarm_name
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.names import LIVE_ALIAS, function_name
from tests.infrastructure.conftest import _aws_engines, aws  # noqa: F401 — fixtures

FUNCTION = function_name("staging")


@pytest.fixture
def account(aws: str, monkeypatch: pytest.MonkeyPatch) -> Account:  # noqa: F811
    """A new account for each test, in the region that commands take from the environment."""
    monkeypatch.setenv("AWS_REGION", settings.AWS_REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", settings.AWS_REGION)
    boto3.setup_default_session()
    return Account(settings.AWS_REGION)


@pytest.fixture
def function(account: Account) -> Iterator[Any]:
    """Creates versions 1 to 3, of which the first is live. The client of Lambda."""
    client = account.client("lambda")
    role = account.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("code.py", "")
    client.create_function(
        FunctionName=FUNCTION,
        Role=role,
        Runtime="python3.11",
        Handler="code.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    for number in (1, 2, 3):
        settings_change(client, str(number))
        client.publish_version(FunctionName=FUNCTION, Description=f"0.1.{number} abc")
    client.create_alias(FunctionName=FUNCTION, Name=LIVE_ALIAS, FunctionVersion="1")
    return client


def settings_change(client: Any, value: str) -> None:
    """Change a setting, because Lambda publishes no version without a change."""
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {"NUMBER": value}})
    client.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 0.05})


@pytest.fixture
def alarms(account: Account) -> Any:
    """Creates all alarms that a release watches, none of them active. The client of CloudWatch."""
    client = account.client("cloudwatch")
    for title in RELEASE_ALARMS:
        name = alarm_name("staging", title)
        client.put_metric_alarm(
            AlarmName=name,
            Namespace="Test",
            MetricName="Any",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData="ignore",
        )
        ring(client, title, state="OK")
    return client


def ring(client: Any, title: str, *, state: str = "ALARM") -> None:
    client.set_alarm_state(AlarmName=alarm_name("staging", title), StateValue=state, StateReason="a test")
