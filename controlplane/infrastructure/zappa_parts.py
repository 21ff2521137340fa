"""What Zappa makes of a stage, completed: its settings file has no words for this, or they would differ by account.

`zappa_complete` changes one run of Zappa's command line, whichever command it runs:

- the function gets the stack's role, whose name contains the region, and X-Ray only with XRAY_TRACING;
- the function reserves the concurrency that the account can spare;
- the API's stage gets an access log and a limit of requests;
- events that a schedule's rule cannot deliver, or that the function fails, go to the stage's queue.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from troposphere import Sub, apigatewayv2

from controlplane.infrastructure.concurrency import concurrency_possible
from controlplane.infrastructure.names import (
    LIVE_ALIAS,
    api_log_group_name,
    function_role_name,
    schedules_queue_name,
)
from controlplane.infrastructure.stages import STAGES, Stage

# The members of a line of the access log. A path has no secret: codes and tokens are in queries, headers and bodies.
ACCESS_LOG = {
    "time": "$context.requestTimeEpoch",
    "request_id": "$context.requestId",
    "address": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "milliseconds": "$context.responseLatency",
    "function_milliseconds": "$context.integrationLatency",
    "bytes": "$context.responseLength",
    "error": "$context.integrationErrorMessage",
    "user_agent": "$context.identity.userAgent",
}
# An event of the sweep is worthless when the next minute has its own.
_EVENT_SECONDS = 60


def zappa_complete(zappa: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Complete what this run of Zappa's command line (`zappa`) makes. `environment` has the stage's settings."""
    core, stage = zappa.zappa, STAGES[zappa.api_stage]
    core.role_name = function_role_name(stage.name, zappa.aws_region)
    core.xray_tracing = zappa.xray_tracing = environment.get("XRAY_TRACING", "").lower() == "true"
    _concurrency_reserve(core, stage)
    _api_stage_complete(core, stage)
    _failures_keep(core, stage)


def _concurrency_reserve(core: Any, stage: Stage) -> None:
    def possible(**arguments: Any) -> dict[str, Any]:
        found = concurrency_possible(stage, core.lambda_client)
        if found.note:
            print(found.note)  # noqa: T201 — for the person who deploys
        return {**arguments, "concurrency": found.reserved}

    create, update = core.create_lambda_function, core.update_lambda_function
    core.create_lambda_function = lambda **arguments: create(**possible(**arguments))
    core.update_lambda_function = lambda **arguments: update(**possible(**arguments))


def _api_stage_complete(core: Any, stage: Stage) -> None:
    make = core.create_stack_template

    def complete(*arguments: Any, **named: Any) -> Any:
        template = make(*arguments, **named)
        place = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}"
        group = f"{place}:log-group:{api_log_group_name(stage.name)}"
        api_stage = core.cf_template.resources["StageV2"]
        api_stage.AccessLogSettings = apigatewayv2.AccessLogSettings(
            DestinationArn=Sub(group), Format=json.dumps(ACCESS_LOG, separators=(",", ":"))
        )
        api_stage.DefaultRouteSettings = apigatewayv2.RouteSettings(
            ThrottlingRateLimit=stage.requests_per_second, ThrottlingBurstLimit=stage.burst
        )
        return template

    core.create_stack_template = complete


def _failures_keep(core: Any, stage: Stage) -> None:
    schedule = core.schedule_events

    def targets_complete(params: dict[str, Any], **_: Any) -> None:
        for target in params["Targets"]:
            target["DeadLetterConfig"] = {"Arn": _queue_arn(stage, target["Arn"])}

    def schedule_and_keep(lambda_arn: str, **arguments: Any) -> None:
        events = core.events_client.meta.events
        events.register("provide-client-params.events.PutTargets", targets_complete, unique_id="dead-letters")
        schedule(lambda_arn=lambda_arn, **arguments)
        core.lambda_client.put_function_event_invoke_config(
            FunctionName=lambda_arn.removesuffix(f":{LIVE_ALIAS}"),
            Qualifier=LIVE_ALIAS,
            MaximumRetryAttempts=0,
            MaximumEventAgeInSeconds=_EVENT_SECONDS,
            DestinationConfig={"OnFailure": {"Destination": _queue_arn(stage, lambda_arn)}},
        )

    core.schedule_events = schedule_and_keep


def _queue_arn(stage: Stage, function_arn: str) -> str:
    """The queue is in the region and the account of the function."""
    _, partition, _, region, account, *_ = function_arn.split(":")
    return f"arn:{partition}:sqs:{region}:{account}:{schedules_queue_name(stage.name)}"
