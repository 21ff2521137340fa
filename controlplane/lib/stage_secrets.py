"""The secrets of a stage on AWS, read in one call when a process of the function starts.

They are in Parameter Store as SecureStrings (``/hybrid-ci-cd/<stage>/NAME``), or in Secrets Manager
(``hybrid-ci-cd/<stage>/NAME``). The function's configuration, which more people may read, has none of them.

The request is signed here: botocore's descriptions of both services would make the package larger, and reading one
takes longer than the whole call.
"""

import json
import os
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

# One call returns at most ten parameters. `manage.py stage_settings` writes them.
SECRET_SETTINGS = (
    "AUDIT_EXPORT_SECRET",
    "EMAIL_URL",
    "GITHUB_CLIENT_SECRET",
    "GOOGLE_CLIENT_SECRET",
    "SECRET_KEY",
    "SECRET_KEY_FALLBACKS",
)
# Values of the setting SECRETS_STORE.
PARAMETER_STORE, SECRETS_MANAGER = "parameter-store", "secrets-manager"
STORES = (PARAMETER_STORE, SECRETS_MANAGER)

# Two attempts fit into the ten seconds that Lambda gives a start.
_TIMEOUT_SECONDS = 3
_ATTEMPTS = 2


class SecretsUnavailable(Exception):
    """The secrets could not be read. Another try may succeed. The text has no secret."""


def secret_path(stage: str) -> str:
    """The names of a stage's secrets begin with this, in Parameter Store after a slash."""
    return f"hybrid-ci-cd/{stage}/"


def secrets_read(stage: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The stored secrets by the name of their setting; one call. `environment` has the credentials that Lambda sets.

    Raises SecretsUnavailable.
    """
    path = secret_path(stage)
    if environment.get("SECRETS_STORE", PARAMETER_STORE) == SECRETS_MANAGER:
        body: dict[str, Any] = {"SecretIdList": [path + name for name in SECRET_SETTINGS]}
        answer = _call("secretsmanager", "secretsmanager.BatchGetSecretValue", body, environment)
        # One that is not stored is no failure. One that the function may not decrypt is.
        refused = [error for error in answer.get("Errors", ()) if error["ErrorCode"] != "ResourceNotFoundException"]
        if refused:
            raise SecretsUnavailable(f"Secrets Manager refuses a secret: {refused[0]['ErrorCode']}")
        found = {entry["Name"]: entry["SecretString"] for entry in answer["SecretValues"]}
    else:
        body = {"Names": [f"/{path}{name}" for name in SECRET_SETTINGS], "WithDecryption": True}
        answer = _call("ssm", "AmazonSSM.GetParameters", body, environment)
        found = {entry["Name"].removeprefix("/"): entry["Value"] for entry in answer["Parameters"]}
    return {name.removeprefix(path): value for name, value in found.items()}


def _call(service: str, target: str, body: dict[str, Any], environment: Mapping[str, str]) -> Any:
    failure = ""
    for _ in range(_ATTEMPTS):
        try:
            with urlopen(_signed(service, target, body, environment), timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            failure = f"{target} is answered with {error.code}: {_error_type(error)}"
            if error.code < 500:
                break
        except (URLError, HTTPException, OSError, ValueError) as error:
            failure = f"{target} failed: {error}"
    raise SecretsUnavailable(failure)


def _error_type(error: HTTPError) -> str:
    try:
        return str(json.load(error).get("__type", "")).rpartition("#")[2]
    except (OSError, ValueError):
        return error.reason


def _signed(service: str, target: str, body: dict[str, Any], environment: Mapping[str, str]) -> Request:
    # Not with the module: on a single machine this module has only names.
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    region = environment["AWS_REGION"]
    suffix = ".cn" if region.startswith("cn-") else ""
    url = environment.get("AWS_ENDPOINT_URL") or f"https://{service}.{region}.amazonaws.com{suffix}"
    request = AWSRequest(
        method="POST",
        url=f"{url.rstrip('/')}/",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target},
    )
    credentials = Credentials(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN"),
    )
    SigV4Auth(credentials, service, region).add_auth(request)
    return Request(request.url, data=request.data, headers=dict(request.headers.items()), method="POST")  # noqa: S310


def on_lambda() -> bool:
    """Whether this process is an AWS Lambda function, whose standard output goes to CloudWatch Logs."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ
