"""The alarms of a stage, and the topic that sends them to people.

There are eleven, each of one metric. Ten are free; a further one, or a further metric of an expression, costs $0.10 a
month.
"""

from collections.abc import Iterator
from typing import Any

from troposphere import Equals, Not, Parameter, Ref, Template, cloudwatch, sns

from controlplane.infrastructure.names import PROJECT, function_name, schedules_queue_name
from controlplane.infrastructure.policies import tls_only
from controlplane.infrastructure.stages import Stage
from controlplane.lib import metric_names

# The alarms that find a bad version before people do.
RELEASE_ALARMS = ("FunctionErrorsAlarm", "FunctionThrottlesAlarm", "FunctionDurationAlarm", "ApiServerErrorsAlarm")

EMAIL_PARAMETER = "AlarmEmail"
API_PARAMETER = "ApiId"
HAS_EMAIL = "HasAlarmEmail"
HAS_API = "HasApi"

_MINUTE = 60
_FIVE_MINUTES = 300
# The gateway's timeout is 30 s. A usual request takes a hundredth of this threshold, a sweep a tenth.
_SLOW_MILLISECONDS = 10_000
# A job that waits longer than this waits for more than agents that are busy for a while.
_LONG_WAIT_SECONDS = 900
# DynamoDB refuses single requests while it scales, and clients retry them.
_THROTTLED_REQUESTS = 10
# At this share of the concurrency there is still time to raise the limit.
_CONCURRENCY_SHARE = 0.8
# The sweep runs each minute. Its alarm waits for so many missing ones.
_MISSED_SWEEPS = 5


def topic_add(template: Template, stage: Stage, key_arn: Any) -> sns.Topic:
    """Add the topic of all alarms. It sends e-mail to the parameter's address, if there is one."""
    template.add_parameter(
        Parameter(EMAIL_PARAMETER, Type="String", Default="", Description="The e-mail address for alarms, or empty")
    )
    template.add_condition(HAS_EMAIL, Not(Equals(Ref(EMAIL_PARAMETER), "")))
    topic = template.add_resource(
        sns.Topic("AlarmTopic", TopicName=f"{PROJECT}-alarms-{stage.name}", KmsMasterKeyId=key_arn)
    )
    template.add_resource(
        sns.SubscriptionResource(
            "AlarmEmailSubscription",
            Condition=HAS_EMAIL,
            TopicArn=Ref(topic),
            Protocol="email",
            Endpoint=Ref(EMAIL_PARAMETER),
        )
    )
    template.add_resource(sns.TopicPolicy("AlarmTopicPolicy", Topics=[Ref(topic)], PolicyDocument=_topic_policy(topic)))
    return topic


def _topic_policy(topic: sns.Topic) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AlarmsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": Ref(topic),
                "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
            },
            tls_only("sns:Publish", Ref(topic)),
        ],
    }


def alarms_add(template: Template, stage: Stage, topic: sns.Topic) -> list[str]:
    """Add all alarms and return their names.

    Those of the gateway and of the sweep are only created when the gateway's parameter has a value: before that, there
    is no function that could sweep.
    """
    template.add_parameter(
        Parameter(API_PARAMETER, Type="String", Default="", Description="The id of the HTTP API, once it exists")
    )
    template.add_condition(HAS_API, Not(Equals(Ref(API_PARAMETER), "")))
    alarms = [
        *_function_alarms(stage),
        _concurrency_alarm(stage),
        _gateway_alarm(),
        _database_alarm(stage),
        *_job_alarms(stage),
        *_sweep_alarms(stage),
        _rotation_alarm(stage),
    ]
    for alarm in alarms:
        alarm.AlarmName = alarm_name(stage.name, alarm.title)
        alarm.AlarmActions = alarm.OKActions = [Ref(topic)]
        template.add_resource(alarm)
    return [alarm.AlarmName for alarm in alarms]


def alarm_name(stage: str, title: str) -> str:
    """The name in CloudWatch of the alarm with this title in the template."""
    name = title.removesuffix("Alarm")
    return f"{PROJECT}-{stage}" + "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)


def _function_alarms(stage: Stage) -> Iterator[cloudwatch.Alarm]:
    function = {"FunctionName": function_name(stage.name)}
    common: dict[str, Any] = {"namespace": "AWS/Lambda", "dimensions": function, "period": _FIVE_MINUTES}
    yield _alarm(
        "FunctionErrorsAlarm",
        "The function failed: it raised an error, or ran out of time or memory. Its log group says why.",
        metric="Errors",
        **common,
    )
    yield _alarm(
        "FunctionThrottlesAlarm",
        "Lambda refused requests because the function's concurrency was used up.",
        metric="Throttles",
        **common,
    )
    yield _alarm(
        "FunctionDurationAlarm",
        f"For 15 minutes, one request in a hundred took longer than {_SLOW_MILLISECONDS // 1000} s.",
        metric="Duration",
        statistic="p99",
        threshold=_SLOW_MILLISECONDS,
        periods=3,
        **common,
    )


def _concurrency_alarm(stage: Stage) -> cloudwatch.Alarm:
    """Without a reservation, all functions of the account in this region share one limit."""
    limit = stage.reserved_concurrency or stage.account_concurrency
    whose = f"{limit} reserved" if stage.reserved_concurrency else f"the account's {limit}"
    return _alarm(
        "ConcurrencyAlarm",
        f"{_CONCURRENCY_SHARE:.0%} of {whose} concurrent executions are in use. Beyond the limit, Lambda refuses "
        "requests: raise it.",
        namespace="AWS/Lambda",
        metric="ConcurrentExecutions" if stage.reserved_concurrency else "ClaimedAccountConcurrency",
        dimensions={"FunctionName": function_name(stage.name)} if stage.reserved_concurrency else {},
        statistic="Maximum",
        period=_MINUTE,
        threshold=int(limit * _CONCURRENCY_SHARE),
        periods=3,
    )


def _gateway_alarm() -> cloudwatch.Alarm:
    alarm = _alarm(
        "ApiServerErrorsAlarm",
        "Clients got 5xx responses from the function or from the gateway.",
        namespace="AWS/ApiGateway",
        metric="5xx",
        dimensions={"ApiId": Ref(API_PARAMETER)},
        period=_FIVE_MINUTES,
        threshold=5,
    )
    alarm.Condition = HAS_API
    return alarm


def _database_alarm(stage: Stage) -> cloudwatch.Alarm:
    """One alarm for reads and writes of all tables and indexes: the function itself counts what DynamoDB throttles.

    A throttled index delays the writes of its table, which the function gets to know, too.
    """
    return _alarm(
        "DatabaseThrottlesAlarm",
        "DynamoDB throttled reads or writes: a capacity is too small, or one key gets too many requests. "
        "The function's log names table and index.",
        namespace=metric_names.NAMESPACE,
        metric=metric_names.DYNAMODB_THROTTLES,
        dimensions={metric_names.STAGE: stage.name},
        period=_FIVE_MINUTES,
        threshold=_THROTTLED_REQUESTS,
    )


def _job_alarms(stage: Stage) -> Iterator[cloudwatch.Alarm]:
    common: dict[str, Any] = {
        "namespace": metric_names.NAMESPACE,
        "dimensions": {metric_names.STAGE: stage.name},
        "statistic": "Maximum",
        "period": _MINUTE,
    }
    yield _alarm(
        "AgentsDeadAlarm",
        "An agent has sent no heartbeat for more than five minutes. Start it, or retire it.",
        metric=metric_names.AGENTS_DEAD,
        periods=5,
        **common,
    )
    yield _alarm(
        "JobsWaitingAlarm",
        f"A job has waited for more than {_LONG_WAIT_SECONDS // 60} minutes: no agent has its labels and a free slot.",
        metric=metric_names.OLDEST_WAIT,
        threshold=_LONG_WAIT_SECONDS,
        periods=3,
        **common,
    )


def _sweep_alarms(stage: Stage) -> Iterator[cloudwatch.Alarm]:
    """A dead-man's switch for the sweep, and the queue of what it could not get done."""
    stopped = _alarm(
        "SweepStoppedAlarm",
        f"For {_MISSED_SWEEPS} minutes, no sweep has measured anything: leases do not expire, and no other alarm about "
        "jobs and agents can ring. Look at the schedule's rule, and at the function's log.",
        namespace=metric_names.NAMESPACE,
        metric=metric_names.QUEUE_DEPTH,
        dimensions={metric_names.STAGE: stage.name},
        statistic="SampleCount",
        period=_MINUTE,
        periods=_MISSED_SWEEPS,
    )
    stopped.ComparisonOperator = "LessThanThreshold"
    stopped.TreatMissingData = "breaching"
    stopped.Condition = HAS_API
    yield stopped
    yield _alarm(
        "SchedulesFailedAlarm",
        f"{schedules_queue_name(stage.name)} has events of schedules that failed or did not reach the function.",
        namespace="AWS/SQS",
        metric="ApproximateNumberOfMessagesVisible",
        dimensions={"QueueName": schedules_queue_name(stage.name)},
        statistic="Maximum",
        period=_FIVE_MINUTES,
    )


def _rotation_alarm(stage: Stage) -> cloudwatch.Alarm:
    """The metric has values only while a rotation needs a user. One that only begins late is back in time for this."""
    return _alarm(
        "RotationsAlarm",
        "A rotation of a secret has failed, or is late. The page of the secret says why; the function's log names it.",
        namespace=metric_names.NAMESPACE,
        metric=metric_names.ROTATIONS_ALARMING,
        dimensions={metric_names.STAGE: stage.name},
        statistic="Maximum",
        period=_MINUTE,
        periods=3,
    )


def _alarm(
    title: str,
    description: str,
    *,
    namespace: str,
    metric: str,
    dimensions: dict[str, Any],
    period: int,
    statistic: str = "Sum",
    threshold: int = 1,
    periods: int = 1,
) -> cloudwatch.Alarm:
    """An alarm for a metric that is at `threshold` or above in `periods` periods of `period` seconds."""
    kind = "ExtendedStatistic" if statistic.startswith("p") else "Statistic"
    return cloudwatch.Alarm(
        title,
        AlarmDescription=description,
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[cloudwatch.MetricDimension(Name=name, Value=value) for name, value in dimensions.items()],
        Period=period,
        EvaluationPeriods=periods,
        Threshold=threshold,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        # A quiet period reports no data.
        TreatMissingData="notBreaching",
        **{kind: statistic},
    )
