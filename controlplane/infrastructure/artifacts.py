"""The bucket of artifacts and caches."""

from troposphere import GetAtt, Template, s3

from controlplane.infrastructure.buckets import bucket_add, place_name
from controlplane.infrastructure.key import KEY_ALIAS
from controlplane.infrastructure.names import ACCOUNT, REGION, Place, artifact_bucket_name
from controlplane.infrastructure.stages import Stage
from controlplane.lib.presigned import KEPT_DAYS, UPLOAD_DAYS


def artifact_bucket_add(template: Template, stage: Stage, key_arn: GetAtt, place: Place | None) -> s3.Bucket:
    """Add the bucket. It is not that of the logs, which are kept for ever, in all versions.

    Agents and users reach single objects of it by presigned URLs, and the life cycle deletes each object when the days
    of its folder are over.
    """
    return bucket_add(
        template,
        "ArtifactBucket",
        name=place_name(artifact_bucket_name(stage.name, REGION, ACCOUNT), place),
        encryption=s3.ServerSideEncryptionRule(
            # One request to KMS serves many objects.
            BucketKeyEnabled=True,
            ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(
                SSEAlgorithm="aws:kms", KMSMasterKeyID=key_arn
            ),
        ),
        life_cycle=s3.LifecycleConfiguration(
            Rules=[
                *(
                    s3.LifecycleRule(
                        Id=f"Keep{days}Days",
                        Status="Enabled",
                        Prefix=f"keep-{days}/",
                        # An object in parts is as old as the beginning of its upload.
                        ExpirationInDays=days + UPLOAD_DAYS,
                    )
                    for days in KEPT_DAYS
                ),
                s3.LifecycleRule(
                    Id="Leftovers",
                    Status="Enabled",
                    AbortIncompleteMultipartUpload=s3.AbortIncompleteMultipartUpload(DaysAfterInitiation=UPLOAD_DAYS),
                ),
            ]
        ),
        DependsOn=KEY_ALIAS,
    )
