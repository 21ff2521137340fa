"""What all buckets of a stage have in common: they are private, require TLS, and outlive the stack."""

from typing import Any

from troposphere import GetAtt, Ref, Sub, Template, s3

from controlplane.infrastructure.names import ACCOUNT, REGION, Place
from controlplane.infrastructure.policies import tls_only


def place_name(name: str, place: Place | None) -> Any:
    """A name with `REGION` and `ACCOUNT` in it, or with those of the place if it is known."""
    return name.replace(REGION, place.region).replace(ACCOUNT, place.account) if place else Sub(name)


def bucket_add(
    template: Template,
    title: str,
    *,
    name: Any,
    encryption: s3.ServerSideEncryptionRule,
    life_cycle: s3.LifecycleConfiguration,
    **properties: Any,
) -> s3.Bucket:
    """Add a bucket and its policy."""
    bucket = template.add_resource(
        s3.Bucket(
            title,
            BucketName=name,
            PublicAccessBlockConfiguration=s3.PublicAccessBlockConfiguration(
                BlockPublicAcls=True, BlockPublicPolicy=True, IgnorePublicAcls=True, RestrictPublicBuckets=True
            ),
            OwnershipControls=s3.OwnershipControls(
                Rules=[s3.OwnershipControlsRule(ObjectOwnership="BucketOwnerEnforced")]
            ),
            BucketEncryption=s3.BucketEncryption(ServerSideEncryptionConfiguration=[encryption]),
            LifecycleConfiguration=life_cycle,
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
            **properties,
        )
    )
    arns = [GetAtt(bucket, "Arn"), Sub(f"${{{bucket.title}.Arn}}/*")]
    policy = {"Version": "2012-10-17", "Statement": [tls_only("s3:*", arns)]}
    template.add_resource(s3.BucketPolicy(f"{title}Policy", Bucket=Ref(bucket), PolicyDocument=policy))
    return bucket
