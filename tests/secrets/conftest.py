"""Secrets for tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import boto3
import pytest

from apps.secrets.models import Secret
from apps.secrets.services import secret_create
from apps.secrets.states import Scope
from controlplane.lib import aws_accounts
from tests.audit.trail import whole
from tests.conftest import OPERATOR
from tests.secrets.aws import SERVICES, USER, Aws
from tests.secrets.postgresql import Database, database_running, programs
from tests.secrets.systems import Systems, systems_running

VALUE = "correct horse battery staple"


def secret_made(name: str = "PYPI_TOKEN", value: str = VALUE, **scope: Any) -> Secret:
    """A secret, which an operator has created."""
    return secret_create(actor=OPERATOR, name=name, value=value, scope=Scope(**scope))


def recorded(target: str) -> list[tuple[str, dict[str, object]]]:
    """The audit events of a target, of all days, oldest first: the action, and its details."""
    return [(record.action, dict(record.detail or {})) for record in reversed(whole(target=target))]


@pytest.fixture(scope="session")
def _systems() -> Iterator[Systems]:
    with systems_running() as systems:
        yield systems


@pytest.fixture
def systems(_systems: Systems, tables: None, settings: Any) -> Iterator[Systems]:
    """The systems with the old value, which the settings allow."""
    settings.ROTATION_HOSTS = [_systems.url]
    settings.GITHUB_API_URL = _systems.url
    from tests.secrets.rotations import OLD, filled, time_of_its_own

    filled(_systems, OLD)
    _systems.requests.clear()
    _systems.received.clear()
    _systems.refuse = lambda _method, _path: None
    with time_of_its_own():
        yield _systems


@pytest.fixture(scope="session")
def _database() -> Iterator[Database]:
    if programs() is None:
        message = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with database_running() as database:
        yield database


@pytest.fixture
def database(_database: Database, systems: Systems, settings: Any) -> Database:
    """A PostgreSQL server, which the settings allow, with the roles as before a rotation."""
    settings.ROTATION_HOSTS = [*settings.ROTATION_HOSTS, f"127.0.0.1:{_database.port}"]
    _database.reset()
    return _database


@pytest.fixture(scope="session")
def _aws_clients(_cloud_engines: Callable[[str], str]) -> tuple[Aws, Callable[..., Any]]:
    """The tests' own clients, and what makes the product's. To make one takes longer than most tests."""
    url = _cloud_engines("moto")
    session = boto3.Session(region_name=os.environ["AWS_REGION"])
    made = Aws(*(session.client(name, endpoint_url=url) for name in ("iam", "secretsmanager", "ssm")))
    with suppress(made.iam.exceptions.EntityAlreadyExistsException):
        made.iam.create_user(UserName=USER)
    return made, cache(aws_accounts._own_client.__wrapped__)


@pytest.fixture
def aws(
    _cloud_engines: Callable[[str], str],
    _aws_clients: tuple[Aws, Callable[..., Any]],
    tables: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Aws:
    """The product's IAM, Secrets Manager and Parameter Store are moto's."""
    made, own_client = _aws_clients
    for service in SERVICES:
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", _cloud_engines("moto"))
    monkeypatch.setattr(aws_accounts, "_own_client", own_client)
    return made
