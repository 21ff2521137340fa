"""Clients of AWS's services other than DynamoDB, and the error that their failures become."""

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
_HURRIED = Config(read_timeout=3, retries={"mode": "standard", "total_max_attempts": 1})


def client_config(*, hurried: bool = False) -> Config:
    """The configuration of every client: its timeouts and its retries. A hurried one makes one attempt, within 4 s."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    return config.merge(_HURRIED) if hurried else config


@cache
def client(service: str, *, hurried: bool = False) -> Any:
    """The process's client of a service, which all threads share. Endpoint and credentials come from AWS's settings.

    A hurried one makes one attempt, which ends within 4 s: for what is tried again a minute later.
    """
    return session().create_client(service, region_name=settings.AWS_REGION, config=client_config(hurried=hurried))


@cache
def session() -> Session:
    """The process's session of botocore, which keeps what it has read of AWS's services and the credentials."""
    return Session()


@contextmanager
def failures_named(service: str) -> Iterator[None]:
    """Raise Unavailable when a call to AWS in this block fails. `service` is its name in the message.

    The block itself must catch errors that are answers, for example that an object does not exist.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(f"AWS ({service}) is not available. Try again.") from error
