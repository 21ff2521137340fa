"""Uploads templates that are too long for a call of CloudFormation to a bucket."""

import hashlib
import json
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.names import template_bucket_name
from controlplane.infrastructure.policies import tls_only

# The longest template that a call can contain, in bytes.
_DIRECT_BYTES = 51_200


def template_argument(account: Account, body: str) -> dict[str, str]:
    """The argument that gives this template to a call: its text, or the URL of its upload."""
    if len(body.encode()) <= _DIRECT_BYTES:
        return {"TemplateBody": body}
    s3 = account.client("s3")
    bucket = template_bucket_name(account.region, account.number)
    _bucket_require(s3, bucket, account)
    key = f"{hashlib.sha256(body.encode()).hexdigest()}.json"
    s3.put_object(
        Bucket=bucket, Key=key, Body=body.encode(), ContentType="application/json", ExpectedBucketOwner=account.number
    )
    return {"TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/{key}"}


def _bucket_require(s3: Any, bucket: str, account: Account) -> None:
    """Create the bucket if it does not exist. Refuse a bucket of another account, which could replace our templates."""
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account.number)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    else:
        return
    place = {} if account.region == "us-east-1" else {"LocationConstraint": account.region}
    s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [{"ID": "Day", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
        },
    )
    arn = f"arn:{s3.meta.partition}:s3:::{bucket}"
    policy = {"Version": "2012-10-17", "Statement": [tls_only("s3:*", [arn, f"{arn}/*"])]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
