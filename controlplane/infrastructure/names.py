"""The names of AWS resources. The function's settings, operators and Zappa rely on them, too.

The names of roles, policies and buckets contain the region, because AWS knows them in all regions: so a stage can exist
in several regions of an account. In a template, `REGION` and `ACCOUNT` stand for both.
"""

from dataclasses import dataclass

PROJECT = "hybrid-ci-cd"
# The alias of the function that the API and the schedules invoke.
LIVE_ALIAS = "live"
# CloudFormation's own parameters, for names in a template that fits any account.
REGION, ACCOUNT = "${AWS::Region}", "${AWS::AccountId}"


@dataclass(frozen=True)
class Place:
    """A region of an account. Names that contain both are literal in a template for one place."""

    region: str
    account: str


def stack_name(stage: str) -> str:
    """The name of our stack. Zappa has a stack of its own, which has the function's name."""
    return f"{PROJECT}-infrastructure-{stage}"


def function_name(stage: str) -> str:
    """The function's name, which Zappa makes from project and stage. Its HTTP API has the same name."""
    return f"{PROJECT}-{stage}"


def function_role_name(stage: str, region: str) -> str:
    """The role of the function."""
    return f"{PROJECT}-function-{stage}-{region}"


def operators_policy_name(stage: str, region: str) -> str:
    """The policy that allows operators to invoke the function directly."""
    return f"{PROJECT}-operators-{stage}-{region}"


def key_alias(stage: str) -> str:
    """The alias of the stage's KMS key. The next stack after a `destroy` finds the key by it."""
    return f"alias/{PROJECT}-{stage}"


def signing_key_alias(stage: str) -> str:
    """The alias of the stage's KMS key that signs. Those that take its place have this alias and ``-2``, ``-3`` …"""
    return f"{key_alias(stage)}-signing"


def log_group_name(stage: str) -> str:
    """The log group to which Lambda writes the function's output."""
    return f"/aws/lambda/{function_name(stage)}"


def api_log_group_name(stage: str) -> str:
    """The log group of the HTTP API's access log. AWS asks for this prefix where a service delivers logs."""
    return f"/aws/vendedlogs/apis/{function_name(stage)}"


def schedules_queue_name(stage: str) -> str:
    """The queue of what the schedules could not get done."""
    return f"{PROJECT}-schedules-{stage}"


def job_log_bucket_name(stage: str, region: str, account: str) -> str:
    """The bucket of archived job logs. Bucket names are globally unique, so it contains the account."""
    return f"{PROJECT}-job-logs-{stage}-{region}-{account}"


def artifact_bucket_name(stage: str, region: str, account: str) -> str:
    """The bucket of artifacts and caches."""
    return f"{PROJECT}-artifacts-{stage}-{region}-{account}"


def package_bucket_name(stage: str, region: str, account: str) -> str:
    """The bucket to which Zappa uploads packages for Lambda."""
    return f"{PROJECT}-packages-{stage}-{region}-{account}"


def template_bucket_name(region: str, account: str) -> str:
    """The bucket of templates while CloudFormation reads them."""
    return f"{PROJECT}-templates-{region}-{account}"


def deployer_role_name(stage: str, region: str) -> str:
    """The role that GitHub Actions assumes to deploy the stage."""
    return f"{PROJECT}-deployer-{stage}-{region}"


def rollback_role_name(stage: str, region: str) -> str:
    """The role that GitHub Actions assumes to roll the stage back, and for nothing else."""
    return f"{PROJECT}-rollback-{stage}-{region}"


def function_boundary_name(stage: str, region: str) -> str:
    """The permissions boundary of every role that a deployer gives the function."""
    return f"{PROJECT}-function-boundary-{stage}-{region}"
