"""What Zappa makes of a stage gets the parts for which its settings have no words."""

import json
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from troposphere import Template, apigatewayv2

from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from controlplane.infrastructure.zappa_parts import zappa_complete
from tests.infrastructure.conftest import of_type

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:hybrid-ci-cd-production"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:hybrid-ci-cd-schedules-production"


class Core:
    """The part of Zappa's core that makes things, with AWS's clients."""

    def __init__(self) -> None:
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
        self.lambda_client, self.events_client = session.client("lambda"), session.client("events")
        self.cf_template = Template()
        self.role_name: str | None = "ZappaLambdaExecutionRole"
        self.xray_tracing = False
        self.given: dict[str, Any] = {}

    def create_lambda_function(self, **arguments: Any) -> str:
        self.given = arguments
        return FUNCTION

    update_lambda_function = create_lambda_function

    def create_stack_template(self, *_: Any, **__: Any) -> Template:
        self.cf_template.add_resource(apigatewayv2.Stage("StageV2", ApiId="api", StageName="production"))
        return self.cf_template

    def schedule_events(self, lambda_arn: str, **_: Any) -> None:
        self.events_client.put_targets(Rule="sweep", Targets=[{"Id": "Id1", "Arn": lambda_arn, "Input": "{}"}])


def completed(**environment: str) -> Core:
    core = Core()
    zappa = SimpleNamespace(zappa=core, api_stage="production", aws_region="us-east-1", xray_tracing=False)
    zappa_complete(zappa, environment)
    return core


def test_the_function_gets_the_role_of_its_region_and_xray_only_when_it_is_switched_on() -> None:
    assert completed().role_name == "hybrid-ci-cd-function-production-us-east-1"
    assert not completed().xray_tracing
    assert not completed(XRAY_TRACING="false").xray_tracing
    assert completed(XRAY_TRACING="true").xray_tracing


def test_the_api_has_an_access_log_of_json_and_a_limit_of_requests() -> None:
    core = completed()
    core.create_stack_template("any", lambda_name="any")
    stage = core.cf_template.to_dict()["Resources"]["StageV2"]["Properties"]
    assert stage["DefaultRouteSettings"] == {"ThrottlingRateLimit": 2000, "ThrottlingBurstLimit": 2000}
    log = stage["AccessLogSettings"]
    group = of_type(stage_template(STAGES["production"]).to_dict(), "AWS::Logs::LogGroup")["ApiLogGroup"]
    assert log["DestinationArn"]["Fn::Sub"].endswith(f":log-group:{group['LogGroupName']}")
    line = json.loads(log["Format"])
    assert {"request_id", "address", "method", "path", "status", "milliseconds"} <= line.keys()
    # Queries and headers have codes and tokens in them.
    assert not {value for value in line.values() if "query" in value or "header" in value or "authorizer" in value}


def test_a_schedules_undelivered_and_failed_events_go_to_the_stages_queue_and_are_not_repeated() -> None:
    core = completed()
    with Stubber(core.events_client) as events, Stubber(core.lambda_client) as function:
        target = {"Id": "Id1", "Arn": f"{FUNCTION}:live", "Input": "{}", "DeadLetterConfig": {"Arn": QUEUE}}
        events.add_response(
            "put_targets", {"FailedEntryCount": 0, "FailedEntries": []}, {"Rule": "sweep", "Targets": [target]}
        )
        function.add_response(
            "put_function_event_invoke_config",
            {},
            {
                "FunctionName": FUNCTION,
                "Qualifier": "live",
                "MaximumRetryAttempts": 0,
                "MaximumEventAgeInSeconds": 60,
                "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
            },
        )
        core.schedule_events(lambda_arn=f"{FUNCTION}:live")
        events.assert_no_pending_responses()
        function.assert_no_pending_responses()


@pytest.mark.parametrize("action", ["create_lambda_function", "update_lambda_function"])
def test_the_account_is_asked_before_concurrency_is_reserved(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    core = completed()
    with Stubber(core.lambda_client) as function:
        limit = {"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}
        function.add_response("get_account_settings", {"AccountLimit": limit})
        function.add_client_error("get_function_concurrency", "ResourceNotFoundException")
        getattr(core, action)(function_name="any", concurrency=100)
    # None is Zappa's word for no reservation.
    assert core.given == {"function_name": "any", "concurrency": None}
    assert "none is reserved. Ask for more under Service Quotas" in capsys.readouterr().out
