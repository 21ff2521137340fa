"""What things are called on AWS. Others than this stack rely on these: the function's settings, operators, Zappa."""

PROJECT = "hybrid-ci-cd"
# The alias of the function that the API and the schedules invoke.
LIVE_ALIAS = "live"


def stack_name(stage: str) -> str:
    """The stack's. Zappa has one of its own, which is called as the function."""
    return f"{PROJECT}-infrastructure-{stage}"


def function_name(stage: str) -> str:
    """As Zappa makes it of its project and stage; its HTTP API has the same name."""
    return f"{PROJECT}-{stage}"


def function_role_name(stage: str) -> str:
    """The role with which the function runs."""
    return f"{PROJECT}-function-{stage}"


def operators_policy_name(stage: str) -> str:
    """The policy that lets whoever has it invoke the function directly."""
    return f"{PROJECT}-operators-{stage}"


def key_alias(stage: str) -> str:
    """The name under which the stage's KMS key is found, also by the next stack after a `destroy`."""
    return f"alias/{PROJECT}-{stage}"


def log_group_name(stage: str) -> str:
    """Where Lambda writes what the function prints."""
    return f"/aws/lambda/{function_name(stage)}"


def job_log_bucket_name(stage: str, account: str) -> str:
    """The bucket of finished jobs' logs; such names are unique in the world, hence the account."""
    return f"{PROJECT}-job-logs-{stage}-{account}"


def package_bucket_name(stage: str, account: str) -> str:
    """The bucket in which Zappa lays packages down for Lambda."""
    return f"{PROJECT}-packages-{stage}-{account}"


def template_bucket_name(region: str, account: str) -> str:
    """Where templates lie for the moment in which CloudFormation reads them."""
    return f"{PROJECT}-templates-{region}-{account}"


def deployer_role_name(stage: str) -> str:
    """The role that GitHub Actions takes on to deploy the stage."""
    return f"{PROJECT}-deployer-{stage}"


def function_boundary_name(stage: str) -> str:
    """The policy that bounds whatever a deployer gives the function's role."""
    return f"{PROJECT}-function-boundary-{stage}"
