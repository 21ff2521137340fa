"""The stage's KMS keys: one encrypts the tables, the archived job logs, the alarms' topic and secrets; one signs.

Both outlive the stack. The tables do, and cannot be read without the first key; and the audit trail's seals do, which
only the public part of the second one verifies.
"""

from typing import Any

from troposphere import GetAtt, Ref, Sub, Template, kms

from controlplane.infrastructure.names import ACCOUNT, PROJECT, REGION, key_alias, signing_key_alias
from controlplane.infrastructure.stages import Stage

KEY = "Key"
# Resources that the key encrypts depend on its alias, so that the key of what a failed deployment leaves can be found.
KEY_ALIAS = "KeyAlias"
SIGNING_KEY = "SigningKey"
_VERSION = "2012-10-17"
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


def signing_key_add(template: Template, stage: Stage) -> None:
    """Add the key that signs the audit trail's seals and jobs' identity tokens, and its alias.

    KMS rotates no such key. docs/operations.md says how a person does.
    """
    key = template.add_resource(
        kms.Key(
            SIGNING_KEY,
            Description=f"{PROJECT} {stage.name}: signatures of the audit trail and of identity tokens",
            # What verifies tokens of OpenID Connect must accept RS256: RSA with SHA-256.
            KeySpec="RSA_2048",
            KeyUsage="SIGN_VERIFY",
            PendingWindowInDays=30,
            KeyPolicy={"Version": _VERSION, "Statement": [_iam_decides()]},
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    template.add_resource(
        kms.Alias(
            f"{SIGNING_KEY}Alias",
            AliasName=signing_key_alias(stage.name),
            TargetKeyId=Ref(key),
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )


def signing_keys_allowed(stage: str) -> dict[str, Any]:
    """The right to sign with the stage's keys that sign, by their aliases: also with one that takes its place."""
    alias = signing_key_alias(stage)
    return {
        "Effect": "Allow",
        "Action": ["kms:GetPublicKey", "kms:Sign"],
        "Resource": Sub(f"arn:${{AWS::Partition}}:kms:{REGION}:{ACCOUNT}:key/*"),
        "Condition": {"ForAnyValue:StringLike": {"kms:ResourceAliases": [alias, f"{alias}-*"]}},
    }


def _iam_decides() -> dict[str, Any]:
    return {
        "Sid": "IamDecides",
        "Effect": "Allow",
        "Principal": {"AWS": _ROOT},
        "Action": "kms:*",
        "Resource": "*",
    }


def _policy() -> dict[str, Any]:
    """Administrators manage the key by IAM. Services use it only for principals with access to what it encrypts.

    The permission to read a table does not include the permission to decrypt its secrets. That takes an IAM policy, and
    in this stage only the function's role has one.
    """
    return {
        "Version": _VERSION,
        "Statement": [
            _iam_decides(),
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
