"""Bringing a stage to AWS, step by step; what `manage.py deploy` does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from controlplane.infrastructure.clients import Account, failures_told
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import function_name

_ROOT = Path(__file__).resolve().parent.parent

Tell = Callable[[str], None]


def settings_require(stage: str, environment: Mapping[str, str]) -> None:
    """Refuse to deploy a function that would refuse to start. Raises InfrastructureError naming what is missing."""
    if not environment.get("ALLOWED_HOSTS"):
        raise InfrastructureError(
            "ALLOWED_HOSTS is not set. It names the stage's domain; without one of your own it is "
            ".execute-api.REGION.amazonaws.com"
        )
    checked = _manage("check", "--tag", "security", environment={**environment, "STAGE": stage})
    if checked.returncode:
        raise InfrastructureError(f"The settings of {stage} are not complete.\n{checked.stderr.strip()}")


def infrastructure_deploy(stage: str, *, agreed: bool) -> None:
    """Make the stack as the code wants it; asks the person at the terminal unless it is `agreed`."""
    arguments = ["infrastructure", "deploy", "--stage", stage, *(["--yes"] if agreed else [])]
    done = subprocess.run([sys.executable, "manage.py", *arguments], cwd=_ROOT, check=False)  # noqa: S603
    if done.returncode:
        raise InfrastructureError("The infrastructure is not as it should be; nothing was deployed.")


def function_deploy(stage: str, account: Account) -> None:
    """`zappa update`, or `zappa deploy` when there is no function yet. Raises InfrastructureError when it fails."""
    action = "update" if _function_is_there(stage, account) else "deploy"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "zappa.cli", action, stage],
        cwd=_ROOT,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
        check=False,
    )
    if done.returncode:
        raise InfrastructureError(f"zappa {action} {stage} failed.")


def api_address(stage: str, account: Account) -> str:
    """Where AWS serves the stage. Raises InfrastructureError when there is no API."""
    with failures_told():
        apis = account.client("apigatewayv2").get_apis()["Items"]
    found = [api for api in apis if api["Name"] == function_name(stage)]
    if len(found) != 1:
        raise InfrastructureError(f"There are {len(found)} HTTP APIs called {function_name(stage)}, not one.")
    return f"{found[0]['ApiEndpoint']}/{stage}"


def smoke_test(address: str, *, stage: str, version: str, tell: Tell) -> None:
    """Ask for what every deployment must answer. Raises InfrastructureError for the first wrong answer."""
    _answer_require(address, "/health", 200, {"status": "healthy", "version": version})
    _answer_require(address, "/info", 200, {"version": version, "environment": stage})
    _answer_require(address, "/signin", 200, None)
    # Signed in or not is asked of the database.
    _answer_require(address, "/jobs", 401, {"code": "not_authenticated"})
    tell(f"{address} answers as version {version}.")


def _answer_require(address: str, path: str, status: int, members: Mapping[str, str] | None) -> None:
    request = Request(address + path, headers={"Accept": "application/json" if members else "text/html"})  # noqa: S310
    try:
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            found, body = answer.status, answer.read()
    except HTTPError as error:
        found, body = error.code, error.read()
    except (URLError, TimeoutError) as error:
        raise InfrastructureError(f"{address}{path} cannot be reached: {error}") from error
    if found != status:
        raise InfrastructureError(f"{address}{path} answers {found}, not {status}: {body[:300]!r}")
    told = json.loads(body) if members else {}
    for name, value in (members or {}).items():
        if told.get(name) != value:
            raise InfrastructureError(f"{address}{path} tells {name} {told.get(name)!r}, not {value!r}.")


def _function_is_there(stage: str, account: Account) -> bool:
    client = account.client("lambda")
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
