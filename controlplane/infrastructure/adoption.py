"""Resources that an earlier stack of the stage, or a failed deployment, has left. A new stack imports them first."""

from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.key import KEY, KEY_ALIAS

_MISSING = frozenset({"404", "NotFoundException", "ResourceNotFoundException"})


def existing_resources(account: Account, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of the template that exist already, in the form that CloudFormation's import takes.

    Raises InfrastructureError when tables exist, but the key that encrypts them cannot be found.
    """
    found = []
    for logical_id, resource in body["Resources"].items():
        if resource.get("DeletionPolicy") == "Retain":
            identifier = _identifier(account, logical_id, body)
            if identifier is not None:
                found.append(
                    {
                        "ResourceType": resource["Type"],
                        "LogicalResourceId": logical_id,
                        "ResourceIdentifier": identifier,
                    }
                )
    ids = {entry["LogicalResourceId"] for entry in found}
    orphans = [logical_id for logical_id in ids if body["Resources"][logical_id].get("DependsOn") == KEY_ALIAS]
    if orphans and KEY not in ids:
        name = body["Resources"][KEY_ALIAS]["Properties"]["AliasName"]
        raise InfrastructureError(
            f"{', '.join(sorted(orphans))} exist, but {name}, the alias of the key that encrypts them, does not. "
            "Give the key this alias again: aws kms create-alias."
        )
    return found


def adoption_body(body: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    """A template of the imported resources alone: CloudFormation cannot import and create in one change set."""
    ids = [entry["LogicalResourceId"] for entry in imports]
    return {"Resources": {logical_id: body["Resources"][logical_id] for logical_id in ids}}


def _identifier(account: Account, logical_id: str, body: dict[str, Any]) -> dict[str, str] | None:
    """The identifier of the resource, or None when it does not exist."""
    kind, properties = body["Resources"][logical_id]["Type"], body["Resources"][logical_id]["Properties"]
    try:
        match kind:
            case "AWS::DynamoDB::Table":
                name = properties["TableName"]
                account.client("dynamodb").describe_table(TableName=name)
                return {"TableName": name}
            case "AWS::S3::Bucket":
                name = properties["BucketName"]
                account.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=account.number)
                return {"BucketName": name}
            case "AWS::Logs::LogGroup":
                name = properties["LogGroupName"]
                groups = account.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
                return {"LogGroupName": name} if any(group["logGroupName"] == name for group in groups) else None
            case "AWS::KMS::Key" | "AWS::KMS::Alias":
                alias = body["Resources"][f"{logical_id.removesuffix('Alias')}Alias"]["Properties"]["AliasName"]
                key = account.client("kms").describe_key(KeyId=alias)["KeyMetadata"]["KeyId"]
                return {"KeyId": key} if kind == "AWS::KMS::Key" else {"AliasName": alias}
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return None
        raise
    raise ValueError(f"{kind} has DeletionPolicy Retain, but there is no code here that finds it")
