"""AWS's services beside DynamoDB: how their clients are made, and what their failures are called here."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from django.conf import settings

from controlplane.lib.errors import Unavailable

# All attempts at one call end within 16 s; API Gateway waits for 30.
CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 5
ATTEMPTS = 3


def client_config() -> Config:
    """For every client of such a service."""
    return Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )


@cache
def client(service: str) -> Any:
    """The process's client of a service, for any number of threads. Endpoint and credentials are as all of AWS's tools
    find them.
    """
    return _session().create_client(service, region_name=settings.AWS_REGION, config=client_config())


@cache
def _session() -> Session:
    return Session()


@contextmanager
def failures_named(service: str) -> Iterator[None]:
    """Raise Unavailable for whatever AWS or the way to it does not do in this block: nothing that a client could mend.

    What is an answer and no failure, such as that a thing is not there, is to be caught inside of it.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(f"AWS ({service}) does not answer as it should just now. Please try again.") from error
