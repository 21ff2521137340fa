"""The steps of a deployment that other programs perform: the command `infrastructure`, and Zappa."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from controlplane.deployment.live import Live
from controlplane.deployment.secret_stores import secret_store
from controlplane.deployment.watch import Watch
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.handover import function_settings
from controlplane.infrastructure.names import function_name
from controlplane.lib.stage_secrets import PARAMETER_STORE, SECRET_SETTINGS, STORES

# In Zappa's environment: only upload. `manage.py deploy` has checked everything, and makes the upload live itself.
UPLOADS_ONLY = "ZAPPA_UPLOADS_ONLY"

_ROOT = Path(__file__).resolve().parent.parent.parent
# The exit code of `manage.py infrastructure diff` for changes.
_DIFFERENT = 2
# Passes the checks in place of a secret that is stored.
_ANY_SECRET = "0123456789" * 6


def settings_require(stage: str, environment: Mapping[str, str]) -> None:
    """Refuse to deploy a function that would refuse to start. Raises InfrastructureError with the missing settings.

    Of secrets it only requires that they are not in the environment; `secrets_require` checks those that are stored.
    """
    given = [name for name in SECRET_SETTINGS if environment.get(name)]
    if given:
        raise InfrastructureError(
            f"{given[0]} is in .env.{stage} or in the environment, but secrets of a stage are stored on AWS. "
            f"Type: manage.py stage_settings set {given[0]} --stage {stage}, and remove it there."
        )
    if not environment.get("ALLOWED_HOSTS"):
        raise InfrastructureError(
            "ALLOWED_HOSTS is not set. It names the stage's domain; without one of your own it is "
            ".execute-api.REGION.amazonaws.com"
        )
    if environment.get("SECRETS_STORE", PARAMETER_STORE) not in STORES:
        raise InfrastructureError(f"SECRETS_STORE must be {' or '.join(STORES)}.")
    # The stack's settings are set with the package, and secrets are checked when they are stored.
    stored = dict.fromkeys(_secrets_needed(environment), _ANY_SECRET)
    settings = {**function_settings(stage, "region", "0" * 12), **environment, **stored, "STAGE": stage}
    checked = _manage("check", "--tag", "security", environment=settings)
    if checked.returncode:
        raise InfrastructureError(f"The settings of {stage} are not complete.\n{checked.stderr.strip()}")


def secrets_require(stage: str, account: Account, environment: Mapping[str, str]) -> None:
    """Require that the secrets that these settings need are stored. Raises InfrastructureError with the command."""
    stored = {secret.name for secret in secret_store(stage, account, environment).stored()}
    for name in _secrets_needed(environment):
        if name not in stored:
            raise InfrastructureError(
                f"The secret {name} of {stage} is not stored in {account.region}. "
                f"Type: manage.py stage_settings set {name} --stage {stage}"
            )


def _secrets_needed(environment: Mapping[str, str]) -> list[str]:
    providers = [name for name in ("GITHUB", "GOOGLE") if environment.get(f"{name}_CLIENT_ID")]
    return ["SECRET_KEY", *(f"{name}_CLIENT_SECRET" for name in providers)]


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


def infrastructure_is_current(stage: str) -> bool:
    """Whether the stack exists and is as this code needs it. Raises InfrastructureError when that cannot be asked."""
    compared = _manage("infrastructure", "diff", "--stage", stage, environment=os.environ)
    if compared.returncode not in (0, _DIFFERENT):
        raise InfrastructureError(compared.stderr.strip().removeprefix("CommandError: "))
    return compared.returncode == 0


def watch_require(stage: str, account: Account) -> None:
    """Require the alarms that a release watches. Raises InfrastructureError when one is missing."""
    Watch(stage, account)


def watch_seconds(environment: Mapping[str, str]) -> float:
    """How long a release is watched at each step: RELEASE_WATCH_SECONDS, or five minutes."""
    text = environment.get("RELEASE_WATCH_SECONDS") or "300"
    if not text.isdecimal():
        raise InfrastructureError(f"RELEASE_WATCH_SECONDS must be a number of seconds, not {text!r}.")
    return float(text)


def product_version() -> str:
    """The version of the product in this checkout. The settings are read only now, after those of the stage."""
    from controlplane.settings import VERSION

    return VERSION


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
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, UPLOADS_ONLY: "true"},
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
