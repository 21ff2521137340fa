"""The bucket to which Zappa uploads a package for Lambda. Lambda keeps a copy of its own."""

from troposphere import Template, s3

from controlplane.infrastructure.buckets import bucket_add, place_name
from controlplane.infrastructure.names import ACCOUNT, REGION, Place, package_bucket_name
from controlplane.infrastructure.stages import Stage

# Removes what a failed deployment leaves. A successful one leaves nothing.
_KEPT_DAYS = 90


def package_bucket_add(template: Template, stage: Stage, place: Place | None) -> s3.Bucket:
    """Add the bucket. It has code and no settings, so S3's own key is enough, and Lambda needs no access to ours."""
    return bucket_add(
        template,
        "PackageBucket",
        name=place_name(package_bucket_name(stage.name, REGION, ACCOUNT), place),
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
