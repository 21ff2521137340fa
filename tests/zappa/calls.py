"""The calls to AWS that commands have made, and the IAM actions that allow them."""

from collections.abc import Mapping
from pathlib import Path

from controlplane.infrastructure.deployer import deployer_template
from controlplane.infrastructure.stages import STAGES
from controlplane.infrastructure.template import stage_template
from tests.infrastructure.handlers import ADMINISTRATORS, BESIDES, HANDLERS, ZAPPAS_HANDLERS

_RECORDER = Path(__file__).with_name("recorder")

# Where the service or the name of the action is not that of the call.
_ACTIONS = {
    "apigatewayv2:GetApis": "apigateway:GET",
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:UploadPart": "s3:PutObject",
}
# What a deployment calls in place of ssm:DescribeParameters, if the stage's secrets are in Secrets Manager.
_OTHER_STORE = frozenset({"secretsmanager:ListSecrets"})
# Every principal may call these.
_FREE = frozenset({"sts:GetCallerIdentity"})


def recording(file: Path) -> Mapping[str, str]:
    """The environment of a program whose calls are recorded in the file."""
    return {"AWS_CALLS_FILE": str(file), "PYTHONPATH": str(_RECORDER)}


def action(call: str) -> str:
    """The IAM action that allows the call, `service:Operation` in botocore's words."""
    return _ACTIONS.get(call, call)


def recorded_actions(file: Path) -> set[str]:
    """The IAM actions that the recorded calls need."""
    return {action(call) for call in set(file.read_text().split()) - _FREE}


def assert_the_deployers_role_is_what_was_called(recorded: set[str]) -> None:
    """Assert that the role of the stage's deployer lacks no action of a deployment, and has none that none needs.

    A deployment needs what it called itself (`recorded`), and what CloudFormation calls in its name.
    """
    (policy,) = deployer_template().to_dict()["Resources"]["DeployerStaging"]["Properties"]["Policies"]
    allowed = {
        action
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }
    assert not [name for name in allowed if "*" in name]
    kinds = {
        part["Type"] for stage in STAGES.values() for part in stage_template(stage).to_dict()["Resources"].values()
    }
    assert kinds == HANDLERS.keys()
    assert "ssm:DescribeParameters" in recorded
    needed = recorded.union(_OTHER_STORE, *HANDLERS.values(), *ZAPPAS_HANDLERS.values())
    needed = needed.union(*(also for call, also in BESIDES.items() if call in recorded)) - ADMINISTRATORS
    differing = sorted(needed - allowed), sorted(allowed - needed)
    assert differing == ([], []), differing
