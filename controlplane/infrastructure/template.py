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
    """All resources of the stage, except the function and its API.

    With `account`, names contain the account's number: CloudFormation only imports what an earlier stack left if its
    name is literal. Without it, the template fits any account.
    """
    template = Template(Description=f"{PROJECT} {stage.name}: all resources except the function and its API")
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
            # Retained, so that a later stack can import it. Its content expires.
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    role = function_role_add(template, stage, tables=tables, key_arn=key_arn, bucket=bucket, log_group=log_group)
    policy = operators_policy_add(template, stage)
    topic = topic_add(template, stage, key_arn)
    dashboard_add(template, stage, alarms_add(template, stage, tables, topic))
    for name, description, value in (
        ("FunctionRoleArn", "The function's role: role_arn in zappa_settings.json", GetAtt(role, "Arn")),
        ("JobLogBucketName", "The bucket in which the function archives job logs", Ref(bucket)),
        ("PackageBucketName", "The bucket to which Zappa uploads packages for Lambda", Ref(packages)),
        ("KeyArn", "The key with which the function encrypts", key_arn),
        ("AlarmTopicArn", "The topic of all alarms", Ref(topic)),
        ("OperatorsPolicyArn", "The policy of operators who invoke the function directly", Ref(policy)),
    ):
        template.add_output(Output(name, Description=description, Value=value))
    return template


def template_body(template: Template) -> str:
    """The template without white space: CloudFormation takes 51,200 bytes directly, and 1 MB from S3."""
    return json.dumps(template.to_dict(), separators=(",", ":"), sort_keys=True)
