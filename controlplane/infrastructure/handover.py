"""What the stack provides to the function and to Zappa, which are not part of it."""

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import (
    artifact_bucket_name,
    job_log_bucket_name,
    key_alias,
    package_bucket_name,
    signing_key_alias,
)

_MISSING = frozenset({"403", "404", "NoSuchBucket"})


def function_settings(stage: str, region: str, account_number: str) -> dict[str, str]:
    """The settings that name the function's buckets and keys. Stage, region and account determine all names."""
    return {
        "KMS_KEY_ID": key_alias(stage),
        "SIGNING_KEY_IDS": signing_key_alias(stage),
        "LOG_BUCKET": job_log_bucket_name(stage, region, account_number),
        "ARTIFACT_BUCKET": artifact_bucket_name(stage, region, account_number),
    }


def package_bucket_require(stage: str, account: Account) -> str:
    """The name of the bucket for packages. Raises InfrastructureError when this account has no such bucket."""
    name = package_bucket_name(stage, account.region, account.number)
    with aws_errors():
        try:
            account.client("s3").head_bucket(Bucket=name, ExpectedBucketOwner=account.number)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise
            raise InfrastructureError(
                f"There is no bucket {name} for the package. First: manage.py infrastructure deploy --stage {stage}"
            ) from error
    return name
