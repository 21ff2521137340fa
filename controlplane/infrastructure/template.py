"""The template of a stage's stack."""

import json

from troposphere import GetAtt, Output, Ref, Template, logs

from controlplane.infrastructure.alarms import alarms_add, topic_add
from controlplane.infrastructure.dashboard import dashboard_add
from controlplane.infrastructure.job_logs import job_log_bucket_add
from controlplane.infrastructure.key import key_add
from controlplane.infrastructure.names import PROJECT, log_group_name
from controlplane.infrastructure.packages import package_bucket_add
from controlplane.infrastructure.role import function_role_add, operators_policy_add
from controlplane.infrastructure.schema import table_schemas
from controlplane.infrastructure.stages import Stage
from controlplane.infrastructure.tables import table_resources


def stage_template(stage: Stage, *, account: str | None = None) -> Template:
    """All that the stage has beside its function.

    `account` writes the account's number out where a name needs it: CloudFormation takes over what an earlier stack
    has left only if it is named in so many words. Without it the template serves any account.
    """
    template = Template(Description=f"{PROJECT} {stage.name}: all but the function and its API")
    tables = table_schemas()
    key_arn = key_add(template, stage)
    for table in tables:
        for resource in table_resources(table, stage, key_arn):
            template.add_resource(resource)
    bucket = job_log_bucket_add(template, stage, key_arn, account)
    packages = package_bucket_add(template, stage, account)
    log_group = template.add_resource(
        logs.LogGroup(
            "FunctionLogGroup",
            LogGroupName=log_group_name(stage.name),
            RetentionInDays=stage.log_days,
            # So that it can be taken over; what is in it goes by itself.
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    role = function_role_add(template, stage, tables=tables, key_arn=key_arn, bucket=bucket, log_group=log_group)
    policy = operators_policy_add(template, stage)
    topic = topic_add(template, stage, key_arn)
    dashboard_add(template, stage, alarms_add(template, stage, tables, topic))
    for name, description, value in (
        ("FunctionRoleArn", "What zappa_settings.json calls role_arn", GetAtt(role, "Arn")),
        ("JobLogBucketName", "Where the function puts the logs of finished jobs", Ref(bucket)),
        ("PackageBucketName", "Where Zappa lays packages down for Lambda", Ref(packages)),
        ("KeyArn", "The key with which the function encrypts", key_arn),
        ("AlarmTopicArn", "Where all alarms go", Ref(topic)),
        ("OperatorsPolicyArn", "For those who may invoke the function directly", Ref(policy)),
    ):
        template.add_output(Output(name, Description=description, Value=value))
    return template


def template_body(template: Template) -> str:
    """The template as short as it goes: CloudFormation takes 51,200 bytes directly, and 1 MB by way of S3."""
    return json.dumps(template.to_dict(), separators=(",", ":"), sort_keys=True)
