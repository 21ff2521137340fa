"""The bucket of archived job logs."""

from troposphere import GetAtt, Template, s3

from controlplane.infrastructure.buckets import bucket_add, place_name
from controlplane.infrastructure.key import KEY_ALIAS
from controlplane.infrastructure.names import ACCOUNT, REGION, Place, job_log_bucket_name
from controlplane.infrastructure.stages import Stage

# People read logs in the first days, if at all. Older logs must be stored, and must be readable without delay.
_SELDOM_READ_DAYS = 30
_HARDLY_READ_DAYS = 120
# The cheaper classes bill each object as if it were at least this large, so a smaller one would cost more there.
_LEAST_BYTES = 128 * 1024
# For so many days an overwritten log can be restored.
_OLD_VERSION_DAYS = 30


def job_log_bucket_add(template: Template, stage: Stage, key_arn: GetAtt, place: Place | None) -> s3.Bucket:
    """Add the bucket. A later stack can only import it if its name is literal, which needs the `place`."""
    return bucket_add(
        template,
        "JobLogBucket",
        name=place_name(job_log_bucket_name(stage.name, REGION, ACCOUNT), place),
        encryption=s3.ServerSideEncryptionRule(
            # One request to KMS serves many logs.
            BucketKeyEnabled=True,
            ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(
                SSEAlgorithm="aws:kms", KMSMasterKeyID=key_arn
            ),
        ),
        life_cycle=_life_cycle(),
        VersioningConfiguration=s3.VersioningConfiguration(Status="Enabled"),
        DependsOn=KEY_ALIAS,
    )


def _life_cycle() -> s3.LifecycleConfiguration:
    return s3.LifecycleConfiguration(
        Rules=[
            s3.LifecycleRule(
                Id="CheaperWithAge",
                Status="Enabled",
                ObjectSizeGreaterThan=str(_LEAST_BYTES),
                Transitions=[
                    s3.LifecycleRuleTransition(StorageClass="STANDARD_IA", TransitionInDays=_SELDOM_READ_DAYS),
                    s3.LifecycleRuleTransition(StorageClass="GLACIER_IR", TransitionInDays=_HARDLY_READ_DAYS),
                ],
            ),
            s3.LifecycleRule(
                Id="Leftovers",
                Status="Enabled",
                NoncurrentVersionExpiration=s3.NoncurrentVersionExpiration(NoncurrentDays=_OLD_VERSION_DAYS),
                AbortIncompleteMultipartUpload=s3.AbortIncompleteMultipartUpload(DaysAfterInitiation=1),
            ),
        ]
    )
