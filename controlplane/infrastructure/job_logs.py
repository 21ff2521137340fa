"""The bucket of finished jobs' logs."""

from typing import Any

from troposphere import GetAtt, Ref, Sub, Template, s3

from controlplane.infrastructure.key import KEY_ALIAS
from controlplane.infrastructure.names import job_log_bucket_name
from controlplane.infrastructure.stages import Stage

# Logs are read in their first days, if at all; later they only have to be there, and be readable at once.
_SELDOM_READ_DAYS = 30
_HARDLY_READ_DAYS = 120
# For how long a log that was written over can be brought back.
_OLD_VERSION_DAYS = 30


def job_log_bucket_add(template: Template, stage: Stage, key_arn: GetAtt, account: str | None) -> s3.Bucket:
    """Add the bucket and its policy. It outlives the stack; only with the `account` in its name can one adopt it."""
    name = (
        job_log_bucket_name(stage.name, account)
        if account
        else Sub(job_log_bucket_name(stage.name, "${AWS::AccountId}"))
    )
    bucket = template.add_resource(
        s3.Bucket(
            "JobLogBucket",
            BucketName=name,
            PublicAccessBlockConfiguration=s3.PublicAccessBlockConfiguration(
                BlockPublicAcls=True, BlockPublicPolicy=True, IgnorePublicAcls=True, RestrictPublicBuckets=True
            ),
            OwnershipControls=s3.OwnershipControls(
                Rules=[s3.OwnershipControlsRule(ObjectOwnership="BucketOwnerEnforced")]
            ),
            BucketEncryption=s3.BucketEncryption(
                ServerSideEncryptionConfiguration=[
                    s3.ServerSideEncryptionRule(
                        # One request to KMS for many logs.
                        BucketKeyEnabled=True,
                        ServerSideEncryptionByDefault=s3.ServerSideEncryptionByDefault(
                            SSEAlgorithm="aws:kms", KMSMasterKeyID=key_arn
                        ),
                    )
                ]
            ),
            VersioningConfiguration=s3.VersioningConfiguration(Status="Enabled"),
            LifecycleConfiguration=_life_cycle(),
            DependsOn=KEY_ALIAS,
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    template.add_resource(s3.BucketPolicy("JobLogBucketPolicy", Bucket=Ref(bucket), PolicyDocument=_tls_only(bucket)))
    return bucket


def _life_cycle() -> s3.LifecycleConfiguration:
    return s3.LifecycleConfiguration(
        Rules=[
            s3.LifecycleRule(
                Id="CheaperWithAge",
                Status="Enabled",
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


def _tls_only(bucket: s3.Bucket) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [GetAtt(bucket, "Arn"), Sub(f"${{{bucket.title}.Arn}}/*")],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
