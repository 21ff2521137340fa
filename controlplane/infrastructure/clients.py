"""AWS's clients, and the errors that people see when AWS refuses a call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from controlplane.infrastructure.errors import InfrastructureError

_NO_CREDENTIALS = (
    "No AWS credentials were found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or sign in with `aws sso login`."
)
_REFUSED = frozenset(
    {"AuthFailure", "ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)


class Account:
    """The account and the principal of our credentials, as AWS reports them.

    Raises InfrastructureError when there are no credentials, or AWS refuses them.
    """

    def __init__(self, region: str) -> None:
        with aws_errors():
            # It finds endpoint and credentials where all of AWS's tools find them.
            self._session = boto3.Session(region_name=region)
            self._clients: dict[str, Any] = {}
            identity = self.client("sts").get_caller_identity()
        self.region = region
        self.number: str = identity["Account"]
        self.principal: str = identity["Arn"]

    def client(self, service: str) -> Any:
        """boto3's client. Making one takes a tenth of a second, so there is one per service."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]


@contextmanager
def aws_errors() -> Iterator[None]:
    """Raise InfrastructureError when AWS refuses a call of this block or cannot be reached."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InfrastructureError(_NO_CREDENTIALS) from error
    except (NoRegionError, ProfileNotFound, TokenRetrievalError) as error:
        raise InfrastructureError(f"{error}.") from error
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if code in _REFUSED:
            raise InfrastructureError(f"AWS refuses the credentials ({code}). {_NO_CREDENTIALS}") from error
        raise InfrastructureError(f"AWS answered {error.operation_name} with {code}: {message}") from error
    except BotoCoreError as error:
        raise InfrastructureError(f"AWS cannot be reached: {error}") from error
