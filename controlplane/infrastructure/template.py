"""The template of a stage's stack."""

import json

from troposphere import GetAtt, Output, Parameter, Ref, Template, logs

from controlplane.infrastructure.alarms import alarms_add, topic_add
from controlplane.infrastructure.artifacts import artifact_bucket_add
from controlplane.infrastructure.budget import budget_add
from controlplane.infrastructure.dashboard import dashboard_add
from controlplane.infrastructure.job_logs import job_log_bucket_add
from controlplane.infrastructure.key import key_add, signing_key_add
from controlplane.infrastructure.names import PROJECT, Place, api_log_group_name, log_group_name
from controlplane.infrastructure.outputs import outputs_add
from controlplane.infrastructure.packages import package_bucket_add
from controlplane.infrastructure.role import function_role_add, operators_policy_add
from controlplane.infrastructure.schedules_queue import schedules_queue_add
from controlplane.infrastructure.schema import table_schemas
from controlplane.infrastructure.stages import ON_DEMAND, PROVISIONED, Stage
from controlplane.infrastructure.tables import table_resources

BILLING_PARAMETER = "Billing"


def stage_template(stage: Stage, *, place: Place | None = None) -> Template:
    """All resources of the stage, except the function and its API.

    With `place`, the names of buckets are literal: CloudFormation only imports what an earlier stack left under such a
    name. Without it, the template fits any account.
    """
    template = Template(Description=f"{PROJECT} {stage.name}: all resources except the function and its API")
    tables = table_schemas()
    key_arn = key_add(template, stage)
    signing_key_add(template, stage)
    for table in tables:
        for resource in table_resources(table, stage, key_arn):
            template.add_resource(resource)
    bucket = job_log_bucket_add(template, stage, key_arn, place)
    artifacts = artifact_bucket_add(template, stage, key_arn, place)
    packages = package_bucket_add(template, stage, place)
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
    template.add_resource(
        logs.LogGroup(
            "ApiLogGroup",
            LogGroupName=api_log_group_name(stage.name),
            RetentionInDays=stage.log_days,
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    queue = schedules_queue_add(template, stage)
    role = function_role_add(
        template,
        stage,
        tables=tables,
        key_arn=key_arn,
        bucket=bucket,
        artifacts=artifacts,
        log_group=log_group,
        queue=queue,
    )
    policy = operators_policy_add(template, stage)
    topic = topic_add(template, stage, key_arn)
    dashboard_add(template, stage, tables, alarms_add(template, stage, topic))
    budget_add(template, stage)
    template.add_parameter(
        Parameter(
            BILLING_PARAMETER,
            Type="String",
            Default=stage.billing,
            AllowedValues=[ON_DEMAND, PROVISIONED],
            Description="How the tables are billed: DYNAMODB_BILLING, remembered for a deployment without it",
        )
    )
    for name, description, value in (
        ("FunctionRoleArn", "The function's role: role_arn in zappa_settings.json", GetAtt(role, "Arn")),
        ("JobLogBucketName", "The bucket in which the function archives job logs", Ref(bucket)),
        ("ArtifactBucketName", "The bucket of artifacts and caches", Ref(artifacts)),
        ("PackageBucketName", "The bucket to which Zappa uploads packages for Lambda", Ref(packages)),
        ("KeyArn", "The key with which the function encrypts", key_arn),
        ("Billing", "How the tables are billed", Ref(BILLING_PARAMETER)),
        ("AlarmTopicArn", "The topic of all alarms", Ref(topic)),
        ("OperatorsPolicyArn", "The policy of operators who invoke the function directly", Ref(policy)),
    ):
        template.add_output(Output(name, Description=description, Value=value))
    outputs_add(template, stage, tables)
    return template


def template_body(template: Template) -> str:
    """The template without white space: CloudFormation takes 51,200 bytes directly, and 1 MB from S3."""
    return json.dumps(template.to_dict(), separators=(",", ":"), sort_keys=True)
