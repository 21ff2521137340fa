"""The roles that GitHub Actions assumes to deploy: one per stage, assumed with GitHub's token, without stored keys.

An administrator deploys this stack once by hand: `manage.py deployer` prints its template. The roles allow what a
deployment calls, wherever possible only on resources that bear the stage's name. A deployment creates the function's
role, and could therefore give itself more rights. So it may only create that role with the permissions boundary here.

The boundary follows the role: a test fails when the role allows an action that the boundary lacks. The subject of
GitHub's token is compared as a whole, without wildcards.
"""

import hashlib
from typing import Any

from troposphere import Equals, If, Output, Parameter, Ref, Sub, Template, iam

from controlplane.infrastructure.key import signing_keys_allowed
from controlplane.infrastructure.names import (
    ACCOUNT,
    PROJECT,
    REGION,
    api_log_group_name,
    artifact_bucket_name,
    deployer_role_name,
    function_boundary_name,
    function_name,
    function_role_name,
    job_log_bucket_name,
    key_alias,
    log_group_name,
    operators_policy_name,
    package_bucket_name,
    rollback_role_name,
    schedules_queue_name,
    stack_name,
    template_bucket_name,
)
from controlplane.infrastructure.stages import STAGES

_VERSION = "2012-10-17"
_ISSUER = "token.actions.githubusercontent.com"
_OWN_PROVIDER = "OwnProvider"
_REPOSITORY = r"^[A-Za-z0-9_.-]+(@[0-9]+)?/[A-Za-z0-9_.-]+(@[0-9]+)?$"

Statement = dict[str, Any]


def deployer_template() -> Template:
    """The stack of the deployers of all stages. The template fits any account."""
    template = Template(Description=f"{PROJECT}: the roles that deploy from GitHub Actions")
    template.add_parameter(
        Parameter(
            "Repository",
            Type="String",
            AllowedPattern=_REPOSITORY,
            Description="As GitHub's tokens name it: owner@id/name@id, or owner/name of one older than July 2026",
        )
    )
    template.add_parameter(
        Parameter(
            "ProviderArn",
            Type="String",
            Default="",
            Description="The account's identity provider for GitHub, if it has one; empty: the stack creates it",
        )
    )
    template.add_condition(_OWN_PROVIDER, Equals(Ref("ProviderArn"), ""))
    provider = template.add_resource(
        iam.OIDCProvider(
            "Provider",
            Condition=_OWN_PROVIDER,
            Url=f"https://{_ISSUER}",
            ClientIdList=["sts.amazonaws.com"],
            # Other roles of the account may have come to use it.
            DeletionPolicy="Retain",
            UpdateReplacePolicy="Retain",
        )
    )
    for stage in STAGES:
        provider_arn = If(_OWN_PROVIDER, Ref(provider), Ref("ProviderArn"))
        _stage_add(template, stage, provider_arn=provider_arn)
        _rollback_add(template, stage, provider_arn=provider_arn)
    return template


def boundary_apply(body: dict[str, Any], boundary_arn: str) -> None:
    """Add the boundary to the function's role in a stage's template. Without it no deployer may create the role."""
    body["Resources"]["FunctionRole"]["Properties"]["PermissionsBoundary"] = boundary_arn


def _stage_add(template: Template, stage: str, *, provider_arn: Any) -> None:
    title = stage.title()
    boundary = template.add_resource(
        iam.ManagedPolicy(
            f"FunctionBoundary{title}",
            ManagedPolicyName=Sub(function_boundary_name(stage, REGION)),
            Description=f"The most that the function of {PROJECT} {stage} can ever be allowed",
            PolicyDocument={"Version": _VERSION, "Statement": _boundary_statements(stage)},
        )
    )
    role = template.add_resource(
        iam.Role(
            f"Deployer{title}",
            RoleName=Sub(deployer_role_name(stage, REGION)),
            Description=f"Deploys {PROJECT} {stage} from GitHub Actions",
            MaxSessionDuration=3600,
            AssumeRolePolicyDocument={"Version": _VERSION, "Statement": [_trust(stage, provider_arn)]},
            Policies=[
                iam.Policy(
                    PolicyName="deploy",
                    PolicyDocument={
                        "Version": _VERSION,
                        "Statement": [
                            *_kept_statements(stage),
                            *_infrastructure_statements(stage),
                            *_identity_statements(stage, Ref(boundary)),
                            *_function_statements(stage),
                        ],
                    },
                )
            ],
        )
    )
    template.add_output(
        Output(
            f"{title}RoleArn",
            Description=f"DEPLOYER_ROLE_ARN of the environment {stage}",
            Value=Sub(f"${{{role.title}.Arn}}"),
        )
    )


def _rollback_add(template: Template, stage: str, *, provider_arn: Any) -> None:
    """A role that can only roll back, because its environment waits for no reviewer."""
    title = stage.title()
    function = f"function:{function_name(stage)}"
    allowed = _allow(
        "lambda",
        "GetAlias ListVersionsByFunction UpdateAlias",
        [_arn("lambda", function), _arn("lambda", f"{function}:*")],
    )
    role = template.add_resource(
        iam.Role(
            f"Rollback{title}",
            RoleName=Sub(rollback_role_name(stage, REGION)),
            Description=f"Rolls {PROJECT} {stage} back from GitHub Actions",
            MaxSessionDuration=3600,
            AssumeRolePolicyDocument={"Version": _VERSION, "Statement": [_trust(f"{stage}-rollback", provider_arn)]},
            Policies=[iam.Policy(PolicyName="rollback", PolicyDocument={"Version": _VERSION, "Statement": [allowed]})],
        )
    )
    template.add_output(
        Output(
            f"{title}RollbackRoleArn",
            Description=f"ROLLBACK_ROLE_ARN of the environment {stage}-rollback",
            Value=Sub(f"${{{role.title}.Arn}}"),
        )
    )


def _trust(environment: str, provider_arn: Any) -> Statement:
    """Allow only jobs of this repository that run in the environment, which GitHub protects."""
    return {
        "Effect": "Allow",
        "Principal": {"Federated": provider_arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{_ISSUER}:aud": "sts.amazonaws.com",
                f"{_ISSUER}:sub": Sub(f"repo:${{Repository}}:environment:{environment}"),
            }
        },
    }


def _arn(service: str, resource: str, *, region: bool = True) -> Sub:
    place = "${AWS::Region}:${AWS::AccountId}" if region else ":${AWS::AccountId}"
    return Sub(f"arn:${{AWS::Partition}}:{service}:{place}:{resource}")


def _bucket(name: str) -> Sub:
    return Sub(f"arn:${{AWS::Partition}}:s3:::{name}")


def _allow(service: str, actions: str, resource: Any, **conditions: Any) -> Statement:
    condition = {"Condition": conditions} if conditions else {}
    named = [f"{service}:{action}" for action in actions.split()]
    return {"Effect": "Allow", "Action": named, "Resource": resource, **condition}


def _deny(service: str, actions: str, resource: Any) -> Statement:
    return {"Effect": "Deny", "Action": [f"{service}:{action}" for action in actions.split()], "Resource": resource}


def _boundary_statements(stage: str) -> list[Statement]:
    tables = f"table/{PROJECT}-*-{stage}"
    return [
        _allow(
            "dynamodb",
            "BatchGetItem ConditionCheckItem DeleteItem GetItem PutItem Query UpdateItem",
            [_arn("dynamodb", tables), _arn("dynamodb", f"{tables}/index/*")],
        ),
        _deny("dynamodb", "DeleteItem UpdateItem", _audit_tables(stage)),
        _allow(
            "s3",
            "AbortMultipartUpload DeleteObject GetObject ListBucket ListMultipartUploadParts PutObject",
            [_bucket(name + rest) for name in _kept_buckets(stage) for rest in ("", "/*")],
        ),
        _allow(
            "kms",
            "Decrypt GenerateDataKey",
            _arn("kms", "key/*"),
            **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": key_alias(stage)}},
        ),
        signing_keys_allowed(stage),
        _allow("logs", "CreateLogStream PutLogEvents", _arn("logs", f"log-group:{log_group_name(stage)}:*")),
        _allow("sqs", "SendMessage", _arn("sqs", schedules_queue_name(stage))),
        _allow("ssm", "GetParameters", _arn("ssm", f"parameter/{PROJECT}/{stage}/*")),
        _allow("secretsmanager", "GetSecretValue", _arn("secretsmanager", f"secret:{PROJECT}/{stage}/*")),
        _allow("secretsmanager", "BatchGetSecretValue", "*"),
        _allow("sts", "AssumeRole", Sub(f"arn:${{AWS::Partition}}:iam::*:role/{PROJECT}-rotation-*")),
        _allow("xray", "PutTelemetryRecords PutTraceSegments", "*"),
        _allow("sts", "AssumeRole", Sub(f"arn:${{AWS::Partition}}:iam::*:role/{PROJECT}-rotation-*")),
    ]


def _kept_statements(stage: str) -> list[Statement]:
    """What no deployer may do, whatever else allows it: only an administrator changes what the audit trail rests on.

    A new key, a new bucket of logs or artifacts, and a change of one, are an administrator's, too: the role has no
    action for these.
    """
    tables = f"table/{PROJECT}-*-{stage}"
    return [
        _deny(
            "dynamodb",
            "UpdateContinuousBackups UpdateTimeToLive",
            _arn("dynamodb", f"table/{PROJECT}-audit*-{stage}"),
        ),
        _deny("dynamodb", "DeleteBackup DeleteResourcePolicy DeleteTable PutResourcePolicy", _arn("dynamodb", tables)),
        _deny(
            "s3",
            "DeleteBucket* PutBucket* PutEncryptionConfiguration PutLifecycleConfiguration",
            [_bucket(name) for name in _kept_buckets(stage)],
        ),
        _deny(
            "s3",
            "DeleteObject* GetObject* PutObject*",
            [_bucket(f"{name}/*") for name in _kept_buckets(stage)],
        ),
        _deny("kms", "Disable* PutKeyPolicy ScheduleKeyDeletion", "*"),
    ]


def _audit_tables(stage: str) -> list[Any]:
    """The trail and its seals. The table audit-tasks is none of it: it says how far exports and holds are."""
    return [_arn("dynamodb", f"table/{PROJECT}-{name}-{stage}") for name in ("audit", "audit-seals")]


def _kept_buckets(stage: str) -> list[str]:
    """The buckets with what jobs have made. Only the function reads and writes their objects."""
    return [name(stage, REGION, ACCOUNT) for name in (job_log_bucket_name, artifact_bucket_name)]


def _infrastructure_statements(stage: str) -> list[Statement]:
    """What the stage's stack consists of. No statement here reads an item, a log or an artifact, or deletes a table."""
    ours = {"aws:ResourceTag/project": PROJECT, "aws:ResourceTag/stage": stage}
    templates = template_bucket_name(REGION, ACCOUNT)
    packages = package_bucket_name(stage, REGION, ACCOUNT)
    return [
        _allow(
            "cloudformation",
            "CreateChangeSet CreateStack DeleteChangeSet DeleteStack DescribeChangeSet DescribeEvents "
            "DescribeStackEvents DescribeStackResource DescribeStacks ExecuteChangeSet GetTemplate TagResource "
            "UpdateStack UpdateTerminationProtection",
            [_arn("cloudformation", f"stack/{name}/*") for name in (stack_name(stage), function_name(stage))],
        ),
        _allow(
            "s3",
            "GetBucketOwnershipControls GetBucketPolicy GetBucketPublicAccessBlock GetBucketTagging "
            "GetBucketVersioning GetEncryptionConfiguration GetLifecycleConfiguration ListBucket",
            [_bucket(name) for name in (templates, packages, *_kept_buckets(stage))],
        ),
        _allow(
            "s3",
            "CreateBucket PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketTagging "
            "PutBucketVersioning PutEncryptionConfiguration PutLifecycleConfiguration",
            [_bucket(name) for name in (templates, packages)],
        ),
        _allow("s3", "DeleteObject GetObject PutObject", [_bucket(f"{name}/*") for name in (templates, packages)]),
        _allow(
            "dynamodb",
            "CreateTable DescribeContinuousBackups DescribeContributorInsights DescribeKinesisStreamingDestination "
            "DescribeTable DescribeTimeToLive GetResourcePolicy ListTagsOfResource TagResource UntagResource "
            "UpdateContinuousBackups UpdateTable UpdateTimeToLive",
            [_arn("dynamodb", f"table/{PROJECT}-*-{stage}{rest}") for rest in ("", "/index/*")],
        ),
        _allow(
            "application-autoscaling",
            "DeleteScalingPolicy DeregisterScalableTarget DescribeScalableTargets DescribeScalingPolicies "
            "ListTagsForResource PutScalingPolicy RegisterScalableTarget TagResource UntagResource",
            "*",
        ),
        _allow(
            "kms",
            "DescribeKey GetKeyPolicy GetKeyRotationStatus ListResourceTags",
            _arn("kms", "key/*"),
            StringEquals=ours,
        ),
        _allow(
            "logs",
            "CreateLogGroup ListTagsForResource PutRetentionPolicy TagResource UntagResource",
            [_arn("logs", f"log-group:{name(stage)}*") for name in (log_group_name, api_log_group_name)],
        ),
        _allow(
            "sns",
            "CreateTopic DeleteTopic GetDataProtectionPolicy GetSubscriptionAttributes GetTopicAttributes "
            "ListSubscriptionsByTopic ListTagsForResource SetTopicAttributes Subscribe TagResource Unsubscribe "
            "UntagResource",
            _arn("sns", f"{PROJECT}-alarms-{stage}*"),
        ),
        _allow(
            "sqs",
            "CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl ListQueueTags SetQueueAttributes TagQueue "
            "UntagQueue",
            _arn("sqs", schedules_queue_name(stage)),
        ),
        _allow(
            "budgets",
            "ListTagsForResource ModifyBudget TagResource UntagResource ViewBudget",
            _arn("budgets", f"budget/{PROJECT}-{stage}-*", region=False),
        ),
        _allow(
            "cloudwatch",
            "DeleteAlarms ListTagsForResource PutMetricAlarm TagResource UntagResource",
            [
                _arn("cloudwatch", f"alarm:{PROJECT}-{stage}-*"),
                _arn("cloudwatch", f"alarm:TargetTracking-table/{PROJECT}-*-{stage}*"),
            ],
        ),
        _allow(
            "cloudwatch",
            "DeleteDashboards GetDashboard PutDashboard",
            _arn("cloudwatch", f"dashboard/{PROJECT}-{stage}", region=False),
        ),
        # These actions support no resource-level permissions. Those on deliveries are for the API's access log.
        _allow("cloudwatch", "DescribeAlarms GetMetricStatistics", "*"),
        _allow("kms", "ListAliases", "*"),
        _allow(
            "logs",
            "CreateLogDelivery DeleteLogDelivery DescribeLogGroups DescribeResourcePolicies GetLogDelivery "
            "ListLogDeliveries PutResourcePolicy UpdateLogDelivery",
            "*",
        ),
        # The names of the stored secrets, without their values.
        _allow("ssm", "DescribeParameters", "*"),
        _allow("secretsmanager", "ListSecrets", "*"),
    ]


def _identity_statements(stage: str, boundary_arn: Any) -> list[Statement]:
    role = _arn("iam", f"role/{function_role_name(stage, REGION)}", region=False)
    return [
        _allow(
            "iam",
            "CreateRole DeleteRolePolicy PutRolePermissionsBoundary PutRolePolicy",
            role,
            StringEquals={"iam:PermissionsBoundary": boundary_arn},
        ),
        _allow(
            "iam",
            "DeleteRole GetRole GetRolePolicy ListAttachedRolePolicies ListRolePolicies TagRole UntagRole "
            "UpdateAssumeRolePolicy UpdateRole UpdateRoleDescription",
            role,
        ),
        _allow("iam", "PassRole", role, StringEquals={"iam:PassedToService": "lambda.amazonaws.com"}),
        _allow(
            "iam",
            "CreatePolicy DeletePolicy GetPolicy GetPolicyVersion ListPolicyVersions TagPolicy UntagPolicy",
            _arn("iam", f"policy/{operators_policy_name(stage, REGION)}", region=False),
        ),
        _allow("iam", "GetPolicy", boundary_arn),
        _allow(
            "iam",
            "CreateServiceLinkedRole",
            "*",
            StringEquals={
                "iam:AWSServiceName": ["dynamodb.application-autoscaling.amazonaws.com", "ops.apigateway.amazonaws.com"]
            },
        ),
    ]


def _function_statements(stage: str) -> list[Statement]:
    """What Zappa creates, and what the release of a version calls.

    With UpdateFunctionCode, a deployer can run code as the function: no statement can change that.
    """
    function = f"function:{function_name(stage)}"
    # Zappa begins the names of rules with this when they would be too long otherwise.
    digest = hashlib.sha1(function_name(stage).encode(), usedforsecurity=False).hexdigest()[:16]
    return [
        _allow(
            "lambda",
            "AddPermission CreateAlias CreateFunction DeleteFunction DeleteFunctionConcurrency "
            "DeleteProvisionedConcurrencyConfig GetAlias GetFunction GetFunctionConcurrency GetFunctionConfiguration "
            "GetPolicy GetProvisionedConcurrencyConfig InvokeFunction ListFunctionUrlConfigs ListVersionsByFunction "
            "PublishVersion PutFunctionConcurrency PutFunctionEventInvokeConfig PutProvisionedConcurrencyConfig "
            "RemovePermission TagResource UpdateAlias UpdateFunctionCode UpdateFunctionConfiguration",
            [_arn("lambda", function), _arn("lambda", f"{function}:*")],
        ),
        # AWS chooses the id of an API.
        _allow(
            "apigateway",
            "DELETE GET PATCH POST PUT",
            [
                Sub(f"arn:${{AWS::Partition}}:apigateway:${{AWS::Region}}::{path}")
                for path in ("/apis", "/apis/*", "/tags/*", "/restapis")
            ],
        ),
        _allow(
            "events",
            "DeleteRule DescribeRule ListTargetsByRule PutRule PutTargets RemoveTargets",
            [_arn("events", f"rule/{name}*") for name in (f"{function_name(stage)}-", digest)],
        ),
        _allow("events", "ListRuleNamesByTarget", "*"),
        _allow("lambda", "GetAccountSettings", "*"),
    ]
