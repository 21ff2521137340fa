"""The queue of what the schedules could not get done: the dead letters of the rules and of the function."""

from troposphere import GetAtt, Ref, Sub, Template, sqs

from controlplane.infrastructure.names import function_name, schedules_queue_name
from controlplane.infrastructure.policies import tls_only
from controlplane.infrastructure.stages import Stage

# The next minute makes up for what one has missed, so an event is only of use to the person who looks why.
_KEPT_SECONDS = 86_400


def schedules_queue_add(template: Template, stage: Stage) -> sqs.Queue:
    """Add the queue. EventBridge sends what it cannot deliver; Lambda, with the function's role, what has failed."""
    queue = template.add_resource(
        sqs.Queue(
            "SchedulesQueue",
            QueueName=schedules_queue_name(stage.name),
            MessageRetentionPeriod=_KEPT_SECONDS,
            SqsManagedSseEnabled=True,
        )
    )
    rules = f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/{function_name(stage.name)}-*"
    template.add_resource(
        sqs.QueuePolicy(
            "SchedulesQueuePolicy",
            Queues=[Ref(queue)],
            PolicyDocument={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "RulesOfTheStage",
                        "Effect": "Allow",
                        "Principal": {"Service": "events.amazonaws.com"},
                        "Action": "sqs:SendMessage",
                        "Resource": GetAtt(queue, "Arn"),
                        "Condition": {"ArnLike": {"aws:SourceArn": Sub(rules)}},
                    },
                    tls_only("sqs:*", GetAtt(queue, "Arn")),
                ],
            },
        )
    )
    return queue
