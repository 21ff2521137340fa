"""The function's role, and the policy of its operators."""

from collections.abc import Sequence
from typing import Any

from troposphere import GetAtt, Sub, Template, iam, logs, s3, sqs

from controlplane.infrastructure.access import TABLE_ACCESS
from controlplane.infrastructure.key import signing_keys_allowed
from controlplane.infrastructure.names import PROJECT, REGION, function_name, function_role_name, operators_policy_name
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
    artifacts: s3.Bucket,
    log_group: logs.LogGroup,
    queue: sqs.Queue,
) -> iam.Role:
    """Add the role that Lambda gives the function. Raises KeyError for a table that is missing in `access`."""
    statements = [
        *_table_statements(tables),
        # The function queries all indexes that there are, and IAM has no room for the name of each.
        {
            "Sid": "Indexes",
            "Effect": "Allow",
            "Action": "dynamodb:Query",
            "Resource": Sub(
                "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:"
                f"table/{PROJECT}-*-{stage.name}/index/*"
            ),
        },
        {
            "Sid": "TrailStays",
            "Effect": "Deny",
            # Nothing allows these. So it stays if somebody adds rights to the role.
            "Action": [f"dynamodb:{name}" for name in ("BatchWriteItem", "DeleteItem", "UpdateItem")],
            "Resource": [GetAtt(table.logical_id, "Arn") for table in tables if table.name in ("audit", "audit-seals")],
        },
        {
            "Sid": "JobLogs",
            "Effect": "Allow",
            # PutObject includes multipart uploads. The life cycle removes what a killed process leaves of one.
            "Action": ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            "Resource": Sub(f"${{{bucket.title}.Arn}}/*"),
        },
        {
            "Sid": "SealsStay",
            "Effect": "Deny",
            # The bucket keeps the versions of a seal that is written over.
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": Sub(f"${{{bucket.title}.Arn}}/audit-seals/*"),
        },
        {
            "Sid": "Artifacts",
            "Effect": "Allow",
            # A presigned URL can do what its signer may, so this is what agents and users can do by one, too.
            "Action": [
                *("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject"),
                *("s3:ListMultipartUploadParts", "s3:PutObject"),
            ],
            "Resource": Sub(f"${{{artifacts.title}.Arn}}/*"),
        },
        # Without it, S3 answers 403 instead of 404 for a missing object.
        {
            "Sid": "ObjectIsThere",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": [GetAtt(bucket, "Arn"), GetAtt(artifacts, "Arn")],
        },
        {"Sid": "Encrypt", "Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": key_arn},
        {"Sid": "Sign", **signing_keys_allowed(stage.name)},
        {
            "Sid": "Log",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": GetAtt(log_group, "Arn"),
        },
        {
            "Sid": "FailedSchedules",
            "Effect": "Allow",
            "Action": "sqs:SendMessage",
            "Resource": GetAtt(queue, "Arn"),
        },
        {
            "Sid": "Secrets",
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue", "ssm:GetParameters"],
            # In either store: `controlplane.lib.stage_secrets`.
            "Resource": [
                Sub(
                    f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{kind}{PROJECT}/{stage.name}/*"
                )
                for service, kind in (("ssm", "parameter/"), ("secretsmanager", "secret:"))
            ],
        },
        # It supports no resource-level permissions, and each secret needs the permission above.
        {
            "Sid": "SecretsInOneCall",
            "Effect": "Allow",
            "Action": ["secretsmanager:BatchGetSecretValue"],
            "Resource": "*",
        },
        # What a rotation may do in an account, the role there says. Its name begins as
        # `apps.secrets.rotation.targets.aws` requires.
        {
            "Sid": "Rotations",
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Resource": Sub(f"arn:${{AWS::Partition}}:iam::*:role/{PROJECT}-rotation-*"),
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
            # A role with another name takes its place: until the function has got that, it needs this one.
            DeletionPolicy="Delete",
            UpdateReplacePolicy="Retain",
            RoleName=Sub(function_role_name(stage.name, REGION)),
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
    for table in tables:
        access = TABLE_ACCESS[table.name]
        actions = tuple(sorted(f"dynamodb:{name}" for name in access.actions))
        by_actions.setdefault(actions, []).append(GetAtt(table.logical_id, "Arn"))
    return [{"Effect": "Allow", "Action": list(actions), "Resource": arns} for actions, arns in by_actions.items()]


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
            ManagedPolicyName=Sub(operators_policy_name(stage.name, REGION)),
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
