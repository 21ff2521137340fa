"""The function's role, and the policy of its operators."""

from collections.abc import Sequence
from typing import Any

from troposphere import GetAtt, Sub, Template, iam, logs, s3

from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.names import PROJECT, function_name, function_role_name, operators_policy_name
from controlplane.infrastructure.schema import TableSchema
from controlplane.infrastructure.stages import Stage

_VERSION = "2012-10-17"


def function_role_add(
    template: Template,
    stage: Stage,
    *,
    tables: Sequence[TableSchema],
    key_arn: Any,
    bucket: s3.Bucket,
    log_group: logs.LogGroup,
) -> iam.Role:
    """Add the role that Lambda gives the function. Raises KeyError for a table that is missing in `access`."""
    statements = [
        *_table_statements(tables),
        {
            "Sid": "JobLogs",
            "Effect": "Allow",
            # PutObject includes multipart uploads. The life cycle removes what a killed process leaves of one.
            "Action": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            "Resource": Sub(f"${{{bucket.title}.Arn}}/*"),
        },
        # Without it, S3 answers 403 instead of 404 for a missing object.
        {"Sid": "JobLogIsThere", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": GetAtt(bucket, "Arn")},
        {"Sid": "Encrypt", "Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": key_arn},
        {
            "Sid": "Log",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": GetAtt(log_group, "Arn"),
        },
        {
            "Sid": "Trace",
            "Effect": "Allow",
            "Action": ["xray:PutTelemetryRecords", "xray:PutTraceSegments"],
            # X-Ray supports no resource-level permissions.
            "Resource": "*",
        },
    ]
    return template.add_resource(
        iam.Role(
            "FunctionRole",
            RoleName=function_role_name(stage.name),
            Description=f"What the function of {PROJECT} {stage.name} may do",
            AssumeRolePolicyDocument={
                "Version": _VERSION,
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            },
            Policies=[iam.Policy(PolicyName="function", PolicyDocument={"Version": _VERSION, "Statement": statements})],
        )
    )


def _table_statements(tables: Sequence[TableSchema]) -> list[dict[str, Any]]:
    """One statement for all tables with the same actions: the inline policies of a role may have 10,240 characters."""
    by_actions: dict[tuple[str, ...], list[Any]] = {}
    indexes = []
    for table in tables:
        access = TABLE_ACCESS[table.name]
        actions = tuple(sorted(f"dynamodb:{name}" for name in access.actions))
        by_actions.setdefault(actions, []).append(GetAtt(table.logical_id, "Arn"))
        indexes += [Sub(f"${{{table.logical_id}.Arn}}/index/{index}") for index in sorted(access.indexes)]
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": list(actions), "Resource": arns} for actions, arns in by_actions.items()
    ]
    return [*statements, {"Sid": "Indexes", "Effect": "Allow", "Action": "dynamodb:Query", "Resource": indexes}]


def operators_policy_add(template: Template, stage: Stage) -> iam.ManagedPolicy:
    """Add the policy for operators. In this stack, only this policy allows to invoke the function without its API.

    A direct invocation can run any command of `manage.py`.
    """
    function = (
        f"arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{function_name(stage.name)}"
    )
    return template.add_resource(
        iam.ManagedPolicy(
            "OperatorsPolicy",
            ManagedPolicyName=operators_policy_name(stage.name),
            Description=f"Operators of {PROJECT} {stage.name}: manage.py on Lambda",
            PolicyDocument={
                "Version": _VERSION,
                "Statement": [
                    {
                        "Sid": "Invoke",
                        "Effect": "Allow",
                        "Action": "lambda:InvokeFunction",
                        "Resource": [Sub(function), Sub(f"{function}:*")],
                    }
                ],
            },
        )
    )
