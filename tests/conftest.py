"""What every test can ask for: the emulator's tables, a real HTTP server, and the people of the tests."""

import functools
import gc
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import hypothesis
import jwt
import pytest
from botocore.loaders import create_loader
from django.conf import settings
from django.core.cache import cache
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from hypothesis.internal.conjecture import providers

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.services import api_token_create, session_start, user_create
from apps.audit.services.refusals import refusals_forget
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.tables import create_tables
from tests.access import access_enforce
from tests.cheaper_calls import calls_make_cheaper, event_names_share
from tests.clients import Client
from tests.emulator import items_clear, running_dynamodb, running_emulator
from tests.examples import examples
from tests.order import items_order
from tests.rewriting import bytecode_make
from tests.second_try import second_tries_give


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ministack(reason): AWS is ministack, since moto does not do this.")
    # With each change the same examples are tried, so that a change is refused for what it did; each night others are.
    hypothesis.settings.register_profile("daily", max_examples=examples(50), derandomize=True)
    hypothesis.settings.register_profile("nightly", max_examples=examples(50))
    profile = config.getoption("--hypothesis-profile") or "daily"
    hypothesis.settings.load_profile(profile)
    if profile == "daily":
        # Hypothesis also tries the constants of our modules. To find them, each process parses the whole product, which
        # takes longer than most properties; at night it does.
        providers._get_local_constants = lambda: providers._local_constants
    # What botocore reads of AWS's services, megabytes of JSON, serves all of its sessions.
    botocore.session.create_loader = functools.cache(create_loader)
    event_names_share()
    # To check that an RSA key is one takes longer than most tests that sign with it.
    algorithms: Any = jwt.algorithms
    algorithms.load_pem_private_key = functools.cache(algorithms.load_pem_private_key)
    # What is imported and collected stays to the end.
    gc.disable()
    if config.getoption("numprocesses", None):
        bytecode_make(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What was deselected is not among them any more.
    second_tries_give(items)
    items_order(items)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what lasts to the end, modules and collected tests, and run more seldom."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of a DynamoDB emulator with all tables, one for each test process."""
    with running_dynamodb() as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        list(create_tables())
        access_enforce()
        calls_make_cheaper(shared_connection().client)
        yield url


@pytest.fixture
def tables(emulator: str) -> Iterator[None]:
    """Empty tables; what the test wrote, and what the process remembers of it, is deleted after it."""
    yield
    cache.clear()
    refusals_forget()
    items_clear(emulator)
    # A seal that object storage has would be put back into the table.
    shutil.rmtree(Path(settings.LOG_DIR).parent / "audit-seals", ignore_errors=True)


class _QuietHandler(WSGIRequestHandler):
    # Head and body go out in two parts; with Nagle's algorithm the second one waits 40 ms for the client's word.
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Requests are not worth a line in the tests' output."""


class _Server(ThreadedWSGIServer):
    daemon_threads = True
    request_queue_size = 128


@pytest.fixture(scope="session")
def _server(emulator: str) -> Iterator[str]:
    from controlplane.wsgi import application

    server = _Server(("127.0.0.1", 0), _QuietHandler)
    server.set_app(application)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(_server: str, tables: None) -> str:
    """The address of the control plane, served over HTTP by threads of this process."""
    return _server


# What everyone in the tests signs in with.
PASSWORD = "a long enough password"

# Who acts in tests of services, which look for no account.
ADMIN = Actor("user", "01kaadmin00000000000000000", "admin", frozenset(ROLES["admin"]))
OPERATOR = Actor("user", "01kaoperator00000000000000", "operator", frozenset(ROLES["operator"]))


def someone(role: str) -> User:
    """An account of this role, named for it."""
    return user_create(email=f"{role}@example.com", password=PASSWORD, name=role.title(), role=role, actor=SYSTEM)


def ada_create(role: str = "operator") -> User:
    """Ada's account."""
    return user_create(email="ada@example.com", password=PASSWORD, name="Ada", role=role, actor=SYSTEM)


def person(server: str, role: str) -> Client:
    """Someone with an account of this role, as a client with an API token of theirs."""
    _, secret = api_token_create(user=someone(role), name="tests", actor=SYSTEM)
    return Client(server, secret)


def session_take(browser: Client, user: User) -> None:
    """Sign a user in as a password does, but for the page with its form, which costs as much as a short test."""
    started = session_start(user=user, provider="password", device="tests", address="127.0.0.1")
    host = urlsplit(browser.server).hostname
    browser.session.cookies.set(settings.SESSION_COOKIE_NAME, started.token, domain=host, path="/")


@pytest.fixture
def ada(tables: None) -> User:
    """An operator."""
    return ada_create()


@pytest.fixture
def admin(server: str) -> Client:
    """May do everything."""
    return person(server, "admin")


@pytest.fixture
def operator(server: str) -> Client:
    """Runs jobs; manages neither users nor agents."""
    return person(server, "operator")


@pytest.fixture
def outsider(server: str) -> Client:
    """A client without a token."""
    return Client(server)


@pytest.fixture
def noon() -> Iterator[None]:
    """It is noon, so that a test that shifts the clock by minutes or hours stays in its day."""
    with clock.shifted(timedelta(seconds=12 * 3600 - clock.now().timestamp() % 86400)):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 110 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=110m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="session")
def _cloud_engines() -> Iterator[Callable[[str], str]]:
    """The URL of moto or ministack with KMS and S3. Each starts when a test first needs it."""
    with ExitStack() as stack:
        yield functools.cache(lambda engine: stack.enter_context(running_emulator("kms,s3", engine=engine)))


@functools.cache
def _cloud_clients(url: str) -> tuple[Any, Any]:
    """The tests' own clients of KMS and S3. To make them takes longer than most tests."""
    session = boto3.Session(region_name=os.environ["AWS_REGION"])
    return session.client("kms", endpoint_url=url), session.client("s3", endpoint_url=url)


@dataclass(frozen=True)
class CloudServices:
    """KMS with a key and S3 with a bucket, by boto3's clients; the product's settings name both."""

    kms: Any
    s3: Any
    key_id: str
    bucket: str


@pytest.fixture
def cloud_services(
    _cloud_engines: Callable[[str], str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> Iterator[CloudServices]:
    """The product encrypts by KMS and keeps logs and artifacts in S3, as on AWS: a new key and a new bucket.

    They are moto's, or ministack's for a test with the mark `ministack`, which says what moto does not do.
    """
    url = _cloud_engines("ministack" if request.node.get_closest_marker("ministack") else "moto")
    for service in ("KMS", "S3"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)
    services_forget()
    kms, s3 = _cloud_clients(url)
    bucket = f"hybrid-ci-cd-job-logs-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": settings.AWS_REGION})
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    alias = f"alias/hybrid-ci-cd-{secrets.token_hex(6)}"
    kms.create_alias(AliasName=alias, TargetKeyId=key_id)
    settings.KMS_KEY_ID = alias
    settings.LOG_BUCKET = settings.ARTIFACT_BUCKET = bucket
    backends = {
        "logs": "controlplane.lib.object_storage.ObjectStorage",
        "artifacts": "controlplane.lib.presigned_objects.PresignedObjects",
    }
    settings.STORAGES = {
        **settings.STORAGES,
        **{name: {"BACKEND": path, "OPTIONS": {"bucket_name": bucket}} for name, path in backends.items()},
    }
    yield CloudServices(kms, s3, key_id, bucket)
    services_forget()


def services_forget() -> None:
    """What the process remembers of KMS, of its clients and of the account."""
    from controlplane.lib import aws, data_keys

    data_keys.data_keys_forget()
    aws.client.cache_clear()
    # It keeps the credentials that it found.
    aws.session.cache_clear()
