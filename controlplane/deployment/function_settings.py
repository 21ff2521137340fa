"""The settings that a deployment gives the function, and the bucket of the stack for its package."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.handover import function_settings, package_bucket_require
from controlplane.lib.stage_secrets import SECRET_SETTINGS

_ROOT = Path(__file__).resolve().parents[2]
# Settings of one machine, of a command, of a deployment, or of zappa_settings.json.
_NOT_THE_FUNCTIONS = frozenset(
    {
        *("ADMIN_PASSWORD", "ARTIFACT_DIR", "KEY_FILE", "LOG_DIR"),
        *("RELEASE_WATCH_SECONDS", "STAGE", "STAGE_URL"),
        *("BUDGET_DOLLARS", "DYNAMODB_BILLING", "PROVISIONED_CONCURRENCY", "XRAY_TRACING"),
    }
)


def stack_use(zappa: Any, account: Account) -> None:
    """Give the function its settings, and give Zappa the stack's bucket for packages instead of one of its own.

    `zappa` is Zappa's command line. Secrets that an earlier deployment put into the function's configuration are
    removed from it. Raises InfrastructureError when there is no bucket.
    """
    zappa.s3_bucket_name = package_bucket_require(zappa.api_stage, account)
    zappa.aws_environment_variables = {
        **function_settings(zappa.api_stage, account.region, account.number),
        **settings_given(os.environ),
        **zappa.aws_environment_variables,
    }
    client = zappa.zappa.lambda_client
    update = client.update_function_configuration

    def update_without_secrets(**arguments: Any) -> Any:
        # Zappa has added what the function had before.
        variables = arguments["Environment"]["Variables"]
        kept = {name: value for name, value in variables.items() if name not in SECRET_SETTINGS}
        return update(**{**arguments, "Environment": {"Variables": kept}})

    client.update_function_configuration = update_without_secrets


def settings_given(environment: Mapping[str, str]) -> dict[str, str]:
    """The function's settings of .env.example in `environment`, without secrets, and what AWS or a machine sets."""
    example = (_ROOT / ".env.example").read_text()
    names = set(re.findall(r"^(\w+)=", example, re.MULTILINE)) - _NOT_THE_FUNCTIONS - set(SECRET_SETTINGS)
    return {name: environment[name] for name in sorted(names) if environment.get(name) and not name.startswith("AWS_")}
