"""AWS's clients, and what a person is told when AWS refuses them."""

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
    "There are no credentials for AWS. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or sign in with `aws sso login`."
)
_REFUSED = frozenset(
    {"AuthFailure", "ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)


class Account:
    """Where something is deployed to, and as whom, as AWS says it of our credentials.

    Raises InfrastructureError when there are no credentials, or AWS refuses them.
    """

    def __init__(self, region: str) -> None:
        with failures_told():
            # It takes endpoint and credentials from where all of AWS's tools take them.
            self._session = boto3.Session(region_name=region)
            self._clients: dict[str, Any] = {}
            identity = self.client("sts").get_caller_identity()
        self.region = region
        self.number: str = identity["Account"]
        self.principal: str = identity["Arn"]

    def client(self, service: str) -> Any:
        """boto3's client; making one takes a tenth of a second, so there is one for each service."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise InfrastructureError for what AWS or the way to it says in this block."""
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
