"""The names of AWS resources. The function's settings, operators and Zappa rely on them, too."""

PROJECT = "hybrid-ci-cd"
# The alias of the function that the API and the schedules invoke.
LIVE_ALIAS = "live"


def stack_name(stage: str) -> str:
    """The name of our stack. Zappa has a stack of its own, which has the function's name."""
    return f"{PROJECT}-infrastructure-{stage}"


def function_name(stage: str) -> str:
    """The function's name, which Zappa makes from project and stage. Its HTTP API has the same name."""
    return f"{PROJECT}-{stage}"


def function_role_name(stage: str) -> str:
    """The role of the function."""
    return f"{PROJECT}-function-{stage}"


def operators_policy_name(stage: str) -> str:
    """The policy that allows operators to invoke the function directly."""
    return f"{PROJECT}-operators-{stage}"


def key_alias(stage: str) -> str:
    """The alias of the stage's KMS key. The next stack after a `destroy` finds the key by it."""
    return f"alias/{PROJECT}-{stage}"


def log_group_name(stage: str) -> str:
    """The log group to which Lambda writes the function's output."""
    return f"/aws/lambda/{function_name(stage)}"


def job_log_bucket_name(stage: str, account: str) -> str:
    """The bucket of archived job logs. Bucket names are globally unique, so it contains the account."""
    return f"{PROJECT}-job-logs-{stage}-{account}"


def package_bucket_name(stage: str, account: str) -> str:
    """The bucket to which Zappa uploads packages for Lambda."""
    return f"{PROJECT}-packages-{stage}-{account}"


def template_bucket_name(region: str, account: str) -> str:
    """The bucket of templates while CloudFormation reads them."""
    return f"{PROJECT}-templates-{region}-{account}"


def deployer_role_name(stage: str) -> str:
    """The role that GitHub Actions assumes to deploy the stage."""
    return f"{PROJECT}-deployer-{stage}"


def function_boundary_name(stage: str) -> str:
    """The permissions boundary of every role that a deployer gives the function."""
    return f"{PROJECT}-function-boundary-{stage}"
