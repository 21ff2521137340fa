"""What CloudFormation calls with the rights of the person who deploys, by type of resource.

It is in AWS's published schemas of the types (`handlers`, `permissions`), here without the parts of features that our
templates do not use. For the types of CloudWatch's dashboards, IAM's managed policies, S3's and SQS's policies, SNS's
subscriptions, auto-scaling, budgets and HTTP APIs it is from AWS's documentation of their actions. A resource that is
retained is never deleted.
"""

_TAGS = "ListTagsForResource TagResource UntagResource"


def _actions(service: str, names: str) -> frozenset[str]:
    return frozenset(f"{service}:{name}" for name in names.split())


_CREATE_LINKED_ROLE = frozenset({"iam:CreateServiceLinkedRole"})

HANDLERS: dict[str, frozenset[str]] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": _actions(
        "application-autoscaling", f"DeregisterScalableTarget DescribeScalableTargets RegisterScalableTarget {_TAGS}"
    )
    | _CREATE_LINKED_ROLE,
    # Its alarms are made with the same rights.
    "AWS::ApplicationAutoScaling::ScalingPolicy": _actions(
        "application-autoscaling", "DeleteScalingPolicy DescribeScalingPolicies PutScalingPolicy"
    )
    | _actions("cloudwatch", "DeleteAlarms DescribeAlarms PutMetricAlarm")
    | _actions("dynamodb", "DescribeTable UpdateTable"),
    "AWS::Budgets::Budget": _actions("budgets", f"ModifyBudget ViewBudget {_TAGS}"),
    "AWS::CloudWatch::Alarm": _actions("cloudwatch", f"DeleteAlarms DescribeAlarms PutMetricAlarm {_TAGS}"),
    "AWS::CloudWatch::Dashboard": _actions("cloudwatch", "DeleteDashboards GetDashboard PutDashboard"),
    "AWS::DynamoDB::Table": _actions(
        "dynamodb",
        "CreateTable DescribeContinuousBackups DescribeContributorInsights DescribeKinesisStreamingDestination "
        "DescribeTable DescribeTimeToLive GetResourcePolicy ListTagsOfResource TagResource UntagResource "
        "UpdateContinuousBackups UpdateTable UpdateTimeToLive",
    ),
    "AWS::IAM::ManagedPolicy": _actions(
        "iam", "CreatePolicy DeletePolicy GetPolicy GetPolicyVersion ListPolicyVersions TagPolicy UntagPolicy"
    ),
    "AWS::IAM::Role": _actions(
        "iam",
        "CreateRole DeleteRole DeleteRolePolicy GetRole GetRolePolicy ListAttachedRolePolicies ListRolePolicies "
        "PutRolePermissionsBoundary PutRolePolicy TagRole UntagRole UpdateAssumeRolePolicy UpdateRole "
        "UpdateRoleDescription",
    ),
    "AWS::KMS::Alias": _actions("kms", "CreateAlias ListAliases UpdateAlias"),
    "AWS::KMS::Key": _actions(
        "kms",
        "CreateKey DescribeKey DisableKeyRotation EnableKeyRotation GetKeyPolicy GetKeyRotationStatus "
        "ListResourceTags PutKeyPolicy TagResource UntagResource UpdateKeyDescription",
    ),
    "AWS::Logs::LogGroup": _actions("logs", f"CreateLogGroup DescribeLogGroups PutRetentionPolicy {_TAGS}"),
    "AWS::S3::Bucket": _actions(
        "s3",
        "CreateBucket GetBucketOwnershipControls GetBucketPublicAccessBlock GetBucketTagging GetBucketVersioning "
        "GetEncryptionConfiguration GetLifecycleConfiguration ListBucket PutBucketOwnershipControls "
        "PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration "
        "PutLifecycleConfiguration",
    ),
    "AWS::S3::BucketPolicy": _actions("s3", "DeleteBucketPolicy GetBucketPolicy PutBucketPolicy"),
    "AWS::SNS::Subscription": _actions(
        "sns", "GetSubscriptionAttributes ListSubscriptionsByTopic Subscribe Unsubscribe"
    ),
    "AWS::SNS::Topic": _actions(
        "sns",
        "CreateTopic DeleteTopic GetDataProtectionPolicy GetTopicAttributes ListSubscriptionsByTopic "
        f"SetTopicAttributes {_TAGS}",
    ),
    "AWS::SNS::TopicPolicy": _actions("sns", "SetTopicAttributes"),
    "AWS::SQS::Queue": _actions(
        "sqs",
        "CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl ListQueueTags SetQueueAttributes TagQueue UntagQueue",
    ),
    "AWS::SQS::QueuePolicy": _actions("sqs", "SetQueueAttributes"),
}

# The types of the stack that Zappa makes for the API.
ZAPPAS_HANDLERS: dict[str, frozenset[str]] = {
    "AWS::ApiGatewayV2::Api": _actions("apigateway", "DELETE GET PATCH POST PUT"),
    "AWS::ApiGatewayV2::Integration": _actions("apigateway", "DELETE GET PATCH POST"),
    "AWS::ApiGatewayV2::Route": _actions("apigateway", "DELETE GET PATCH POST"),
    # AWS's guide to access logs of HTTP APIs names the actions on logs.
    "AWS::ApiGatewayV2::Stage": _actions("apigateway", "DELETE GET PATCH POST PUT")
    | _actions(
        "logs",
        "CreateLogDelivery DeleteLogDelivery DescribeLogGroups DescribeResourcePolicies GetLogDelivery "
        "ListLogDeliveries PutResourcePolicy UpdateLogDelivery",
    )
    | _CREATE_LINKED_ROLE,
    "AWS::Lambda::Permission": _actions("lambda", "AddPermission GetPolicy RemovePermission"),
}

# What a call needs besides the action of its own name.
BESIDES: dict[str, frozenset[str]] = {
    "cloudformation:CreateChangeSet": frozenset({"cloudformation:TagResource"}),
    "lambda:CreateFunction": frozenset({"iam:PassRole"}),
    # Lambda reads the package, as CloudFormation reads a template, with the caller's rights.
    "lambda:UpdateFunctionCode": frozenset({"s3:GetObject"}),
    # Staging reserves no concurrency and may be deleted; production reserves some and is protected.
    "lambda:GetAccountSettings": frozenset({"lambda:GetFunctionConcurrency", "lambda:PutFunctionConcurrency"}),
    "cloudformation:ExecuteChangeSet": frozenset({"cloudformation:UpdateTerminationProtection"}),
    # Says why CloudFormation refused a template.
    "cloudformation:DescribeStackEvents": frozenset({"cloudformation:DescribeEvents"}),
}

# What CloudFormation calls for resources that only an administrator makes or changes, and a deployer therefore lacks.
ADMINISTRATORS = _actions(
    "kms",
    "CreateAlias CreateKey DisableKeyRotation EnableKeyRotation PutKeyPolicy TagResource UntagResource UpdateAlias "
    "UpdateKeyDescription",
) | _actions("s3", "DeleteBucketPolicy")
