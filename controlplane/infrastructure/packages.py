"""The bucket in which Zappa lays a package down for Lambda, which keeps a copy of its own."""

from troposphere import Template, s3

from controlplane.infrastructure.buckets import account_name, bucket_add
from controlplane.infrastructure.names import package_bucket_name
from controlplane.infrastructure.stages import Stage

# What a deployment that broke off has left. None that succeeds leaves anything.
_KEPT_DAYS = 90


def package_bucket_add(template: Template, stage: Stage, account: str | None) -> s3.Bucket:
    """Add the bucket. It holds code and no settings, so S3's own key is enough, and Lambda needs none of ours."""
    return bucket_add(
        template,
        "PackageBucket",
        name=account_name(package_bucket_name(stage.name, "${AWS::AccountId}"), account),
        encryption=s3.ServerSideEncryptionRule(
            ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(SSEAlgorithm="AES256")
        ),
        life_cycle=s3.LifecycleConfiguration(
            Rules=[
                s3.LifecycleRule(
                    Id="Leftovers",
                    Status="Enabled",
                    ExpirationInDays=_KEPT_DAYS,
                    AbortIncompleteMultipartUpload=s3.AbortIncompleteMultipartUpload(DaysAfterInitiation=1),
                )
            ]
        ),
    )
