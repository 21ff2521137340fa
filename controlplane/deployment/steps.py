"""The steps of a deployment that other programs perform: the command `infrastructure`, and Zappa."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from controlplane.deployment.live import Live
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.handover import function_settings
from controlplane.infrastructure.names import function_name

_ROOT = Path(__file__).resolve().parent.parent.parent


def settings_require(stage: str, environment: Mapping[str, str]) -> None:
    """Refuse to deploy a function that would refuse to start. Raises InfrastructureError with the missing settings."""
    if not environment.get("ALLOWED_HOSTS"):
        raise InfrastructureError(
            "ALLOWED_HOSTS is not set. It names the stage's domain; without one of your own it is "
            ".execute-api.REGION.amazonaws.com"
        )
    # The stack's settings are set with the package. Their values do not matter here.
    settings = {**function_settings(stage, "0" * 12), **environment, "STAGE": stage}
    checked = _manage("check", "--tag", "security", environment=settings)
    if checked.returncode:
        raise InfrastructureError(f"The settings of {stage} are not complete.\n{checked.stderr.strip()}")


def infrastructure_deploy(stage: str, *, agreed: bool) -> None:
    """Deploy the stack. Unless `agreed`, the command asks for confirmation at the terminal."""
    arguments = ["infrastructure", "deploy", "--stage", stage, *(["--yes"] if agreed else [])]
    done = subprocess.run([sys.executable, "manage.py", *arguments], cwd=_ROOT, check=False)  # noqa: S603
    if done.returncode:
        raise InfrastructureError("The infrastructure was not deployed, so the function was not deployed either.")


def function_deploy(stage: str, account: Account) -> None:
    """`zappa update`, or `zappa deploy` when there is no function yet. Raises InfrastructureError when it fails."""
    if _function_is_there(stage, account):
        # Without the alias, Zappa would fail halfway.
        Live(stage, account).state()
        _zappa("update", stage)
    else:
        _zappa("deploy", stage)


def schedules_deploy(stage: str) -> None:
    """Make the rules of zappa_settings.json, and no others, invoke the live version."""
    _zappa("schedule", stage)


def api_address(stage: str, account: Account) -> str:
    """The address at which AWS serves the stage. Raises InfrastructureError when there is no API."""
    with aws_errors():
        apis = account.client("apigatewayv2").get_apis()["Items"]
    found = [api for api in apis if api["Name"] == function_name(stage)]
    if len(found) != 1:
        raise InfrastructureError(f"There are {len(found)} HTTP APIs called {function_name(stage)}, not one.")
    return f"{found[0]['ApiEndpoint']}/{stage}"


def _zappa(action: str, stage: str) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "zappa.cli", action, stage],
        cwd=_ROOT,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
        check=False,
    )
    if done.returncode:
        raise InfrastructureError(f"zappa {action} {stage} failed.")


def _function_is_there(stage: str, account: Account) -> bool:
    client = account.client("lambda")
    with aws_errors():
        try:
            client.get_function(FunctionName=function_name(stage))
        except client.exceptions.ResourceNotFoundException:
            return False
        return True


def _manage(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", *arguments],
        cwd=_ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
