"""AWS's clients, and what a person is told when AWS refuses them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Account:
    """Where something is deployed to, as AWS says it of our credentials."""

    number: str
    region: str
    principal: str


def client(service: str, region: str) -> Any:
    """A client of boto3's; it takes its endpoint and credentials from where all of AWS's tools take them."""
    with failures_told():
        return boto3.Session(region_name=region).client(service)


def account_find(region: str) -> Account:
    """Whose account our credentials are of. Raises InfrastructureError when there are none, or AWS refuses them."""
    with failures_told():
        identity = client("sts", region).get_caller_identity()
    return Account(number=identity["Account"], region=region, principal=identity["Arn"])


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
