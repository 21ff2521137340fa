"""AWS as another role or another access key, for rotations in the accounts of users."""

from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from controlplane.lib.aws import client_config, session
from controlplane.lib.errors import Unavailable

# What a later try may not meet: throttling, failures of AWS, and rights that AWS has not spread yet.
_TRANSIENT = ("Throttl", "RequestLimit", "TooManyRequests", "Internal", "ServiceUnavailable", "ServiceFailure", "Slow")


class AwsRefused(Exception):
    """AWS refuses a call. `code` is AWS's own, such as AccessDeniedException. The text has no secret."""

    def __init__(self, code: str, operation: str) -> None:
        super().__init__(f"AWS refuses {operation}: {code}.")
        self.code = code


def account_client(service: str, *, region: str, role_arn: str | None = None, session_name: str = "rotation") -> Any:
    """A client with this process's own rights, or with those of a role that it assumes.

    Raises AwsRefused, Unavailable.
    """
    if not role_arn:
        return _own_client(service, region)
    sts = _own_client("sts", region)
    answer = aws_call(sts.assume_role, RoleArn=role_arn, RoleSessionName=session_name[:64], DurationSeconds=900)
    keys = answer["Credentials"]
    return session().create_client(
        service,
        region_name=region,
        config=client_config(),
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def key_owner(*, access_key_id: str, secret_access_key: str, region: str) -> str:
    """The ARN of the user whose access key this is. Raises AwsRefused if AWS does not accept the key, Unavailable."""
    sts = session().create_client(
        "sts",
        region_name=region,
        config=client_config(),
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
    )
    arn: str = aws_call(sts.get_caller_identity)["Arn"]
    return arn


@cache
def _own_client(service: str, region: str) -> Any:
    return session().create_client(service, region_name=region, config=client_config())


def aws_call(method: Callable[..., dict[str, Any]], **arguments: Any) -> dict[str, Any]:
    """Call a client's method. Raises AwsRefused for an error that would come again, else Unavailable."""
    operation = method.__name__
    try:
        return method(**arguments)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or any(text in code for text in _TRANSIENT):
            raise Unavailable(f"AWS does not answer {operation} now ({code}).") from None
        raise AwsRefused(code, operation) from None
    except BotoCoreError as error:
        raise Unavailable(f"AWS does not answer {operation} ({type(error).__name__}).") from None
