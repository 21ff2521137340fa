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

from controlplane.infrastructure.names import (
    PROJECT,
    deployer_role_name,
    function_boundary_name,
    function_name,
    function_role_name,
    key_alias,
    log_group_name,
    operators_policy_name,
    stack_name,
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
        _stage_add(template, stage, provider_arn=If(_OWN_PROVIDER, Ref(provider), Ref("ProviderArn")))
    return template


def boundary_apply(body: dict[str, Any], boundary_arn: str) -> None:
    """Add the boundary to the function's role in a stage's template. Without it no deployer may create the role."""
    body["Resources"]["FunctionRole"]["Properties"]["PermissionsBoundary"] = boundary_arn


def _stage_add(template: Template, stage: str, *, provider_arn: Any) -> None:
    title = stage.title()
    boundary = template.add_resource(
        iam.ManagedPolicy(
            f"FunctionBoundary{title}",
            ManagedPolicyName=function_boundary_name(stage),
            Description=f"The most that the function of {PROJECT} {stage} can ever be allowed",
            PolicyDocument={"Version": _VERSION, "Statement": _boundary_statements(stage)},
        )
    )
    role = template.add_resource(
        iam.Role(
            f"Deployer{title}",
            RoleName=deployer_role_name(stage),
            Description=f"Deploys {PROJECT} {stage} from GitHub Actions",
            MaxSessionDuration=3600,
            AssumeRolePolicyDocument={"Version": _VERSION, "Statement": [_trust(stage, provider_arn)]},
            Policies=[
                iam.Policy(
                    PolicyName="deploy",
                    PolicyDocument={
                        "Version": _VERSION,
                        "Statement": [
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


def _trust(stage: str, provider_arn: Any) -> Statement:
    """Allow only jobs of this repository that run in the stage's environment, which GitHub protects."""
    return {
        "Effect": "Allow",
        "Principal": {"Federated": provider_arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{_ISSUER}:aud": "sts.amazonaws.com",
                f"{_ISSUER}:sub": Sub(f"repo:${{Repository}}:environment:{stage}"),
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


def _boundary_statements(stage: str) -> list[Statement]:
    tables = f"table/{PROJECT}-*-{stage}"
    return [
        _allow(
            "dynamodb",
            "BatchGetItem ConditionCheckItem DeleteItem GetItem PutItem Query UpdateItem",
            [_arn("dynamodb", tables), _arn("dynamodb", f"{tables}/index/*")],
        ),
        {
            "Effect": "Deny",
            "Action": ["dynamodb:DeleteItem", "dynamodb:UpdateItem"],
            "Resource": _arn("dynamodb", f"table/{PROJECT}-audit-{stage}"),
        },
        _allow(
            "s3",
            "AbortMultipartUpload DeleteObject GetObject ListBucket PutObject",
            [_bucket(f"{PROJECT}-job-logs-{stage}-${{AWS::AccountId}}{rest}") for rest in ("", "/*")],
        ),
        _allow(
            "kms",
            "Decrypt GenerateDataKey",
            _arn("kms", "key/*"),
            **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": key_alias(stage)}},
        ),
        _allow("logs", "CreateLogStream PutLogEvents", _arn("logs", f"log-group:{log_group_name(stage)}:*")),
        _allow("xray", "PutTelemetryRecords PutTraceSegments", "*"),
    ]


def _infrastructure_statements(stage: str) -> list[Statement]:
    """What the stage's stack consists of. No statement here reads an item or a log, or deletes a table."""
    ours = {"aws:ResourceTag/project": PROJECT, "aws:ResourceTag/stage": stage}
    templates = f"{PROJECT}-templates-${{AWS::Region}}-${{AWS::AccountId}}"
    packages = f"{PROJECT}-packages-{stage}-${{AWS::AccountId}}"
    logs = f"{PROJECT}-job-logs-{stage}-${{AWS::AccountId}}"
    return [
        _allow(
            "cloudformation",
            "CreateChangeSet CreateStack DeleteChangeSet DeleteStack DescribeChangeSet DescribeEvents "
            "DescribeStackEvents DescribeStackResource DescribeStacks ExecuteChangeSet GetTemplate ListStackResources "
            "TagResource UpdateStack UpdateTerminationProtection",
            [_arn("cloudformation", f"stack/{name}/*") for name in (stack_name(stage), function_name(stage))],
        ),
        _allow(
            "s3",
            "CreateBucket GetBucket* GetEncryptionConfiguration GetLifecycleConfiguration ListBucket PutBucket* "
            "PutEncryptionConfiguration PutLifecycleConfiguration",
            [_bucket(name) for name in (templates, packages, logs)],
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
            "CreateKey TagResource",
            "*",
            StringEquals={name.replace("Resource", "Request"): value for name, value in ours.items()},
        ),
        _allow(
            "kms",
            "CreateAlias DeleteAlias DescribeKey DisableKeyRotation EnableKeyRotation GetKeyPolicy "
            "GetKeyRotationStatus ListResourceTags PutKeyPolicy TagResource UntagResource UpdateAlias "
            "UpdateKeyDescription",
            _arn("kms", "key/*"),
            StringEquals=ours,
        ),
        _allow("kms", "CreateAlias DeleteAlias UpdateAlias", _arn("kms", key_alias(stage))),
        _allow(
            "logs",
            "CreateLogGroup ListTagsForResource PutRetentionPolicy TagResource UntagResource",
            _arn("logs", f"log-group:{log_group_name(stage)}*"),
        ),
        _allow(
            "sns",
            "CreateTopic DeleteTopic GetTopicAttributes ListSubscriptionsByTopic ListTagsForResource "
            "SetTopicAttributes Subscribe TagResource Unsubscribe UntagResource",
            _arn("sns", f"{PROJECT}-alarms-{stage}*"),
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
        # These actions support no resource-level permissions.
        _allow("cloudwatch", "DescribeAlarms GetMetricStatistics", "*"),
        _allow("kms", "ListAliases", "*"),
        _allow("logs", "DescribeLogGroups", "*"),
    ]


def _identity_statements(stage: str, boundary_arn: Any) -> list[Statement]:
    role = _arn("iam", f"role/{function_role_name(stage)}", region=False)
    return [
        _allow(
            "iam",
            "AttachRolePolicy CreateRole DeleteRolePolicy DetachRolePolicy PutRolePermissionsBoundary PutRolePolicy",
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
            _arn("iam", f"policy/{operators_policy_name(stage)}", region=False),
        ),
        _allow("iam", "GetPolicy", boundary_arn),
        _allow(
            "iam",
            "CreateServiceLinkedRole",
            "*",
            StringEquals={"iam:AWSServiceName": "dynamodb.application-autoscaling.amazonaws.com"},
        ),
    ]


def _function_statements(stage: str) -> list[Statement]:
    """What Zappa creates, and what the release of a version calls."""
    function = f"function:{function_name(stage)}"
    # Zappa begins the names of rules with this when they would be too long otherwise.
    digest = hashlib.sha1(function_name(stage).encode(), usedforsecurity=False).hexdigest()[:16]
    return [
        _allow(
            "lambda",
            "AddPermission CreateAlias CreateFunction DeleteFunction DeleteFunctionConcurrency GetAlias GetFunction "
            "GetFunctionConcurrency GetFunctionConfiguration GetPolicy GetProvisionedConcurrencyConfig InvokeFunction "
            "ListFunctionUrlConfigs ListTags ListVersionsByFunction PublishVersion PutFunctionConcurrency "
            "RemovePermission TagResource UntagResource UpdateAlias UpdateFunctionCode UpdateFunctionConfiguration",
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
        _allow("events", "ListRuleNamesByTarget ListRules", "*"),
    ]
