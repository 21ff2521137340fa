"""The stage's KMS key: it encrypts the tables, the archived job logs, the alarms' topic, and secrets.

The key outlives the stack, because the tables do, and without the key they cannot be read.
"""

from typing import Any

from troposphere import GetAtt, Ref, Sub, Template, kms

from controlplane.infrastructure.names import PROJECT, key_alias
from controlplane.infrastructure.stages import Stage

KEY = "Key"
# Resources that the key encrypts depend on its alias, so that the key of what a failed deployment leaves can be found.
KEY_ALIAS = "KeyAlias"
_ROOT = Sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")


def key_add(template: Template, stage: Stage) -> GetAtt:
    """Add the key and its alias. Returns the key's ARN."""
    key = template.add_resource(
        kms.Key(
            KEY,
            Description=f"{PROJECT} {stage.name}: tables, logs, encrypted secrets",
            EnableKeyRotation=True,
            PendingWindowInDays=30,
            KeyPolicy=_policy(),
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    template.add_resource(
        kms.Alias(
            KEY_ALIAS,
            AliasName=key_alias(stage.name),
            TargetKeyId=Ref(key),
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    return GetAtt(key, "Arn")


def _policy() -> dict[str, Any]:
    """Administrators manage the key by IAM. Services use it only for principals with access to what it encrypts.

    The permission to read a table does not include the permission to decrypt its secrets. That takes an IAM policy, and
    in this stage only the function's role has one.
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "IamDecides",
                "Effect": "Allow",
                "Principal": {"AWS": _ROOT},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "TablesAndBuckets",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": [
                    "kms:CreateGrant",
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                "Resource": "*",
                "Condition": {
                    "StringEquals": {
                        "kms:CallerAccount": Ref("AWS::AccountId"),
                        "kms:ViaService": [
                            Sub("dynamodb.${AWS::Region}.amazonaws.com"),
                            Sub("s3.${AWS::Region}.amazonaws.com"),
                        ],
                    }
                },
            },
            {
                "Sid": "AlarmsPublish",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey*"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")}},
            },
        ],
    }
