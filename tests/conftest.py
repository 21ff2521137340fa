"""What every test can ask for: the emulator's tables, a real HTTP server, and three people."""

import os
import threading
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from controlplane.nosql.tables import create_tables, record_tables
from tests.access import access_enforce
from tests.clients import Client
from tests.emulator import running_emulator


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of a DynamoDB emulator with all tables, one for each test process."""
    with running_emulator() as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        list(create_tables())
        access_enforce()
        yield url


@pytest.fixture
def tables(emulator: str) -> Iterator[None]:
    """Empty tables; what the test wrote, and what the process remembers of it, is deleted after it."""
    yield
    cache.clear()
    for kinds in record_tables().values():
        kind = kinds[0]
        connection = kind._get_connection()
        keys = connection.get_meta_table().get_key_names()
        while items := connection.scan()["Items"]:
            for item in items:
                connection.connection.client.delete_item(
                    TableName=kind.Meta.table_name, Key={name: item[name] for name in keys}
                )


class _QuietHandler(WSGIRequestHandler):
    # Head and body go out in two pieces; with Nagle's algorithm the second one waits 40 ms for the client's word.
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


def person(server: str, role: str) -> Client:
    """Someone with an account of this role, as a client with an API token of theirs."""
    from apps.accounts.services import api_token_create, user_create
    from controlplane.lib.actor import SYSTEM

    user = user_create(email=f"{role}@example.com", password=PASSWORD, name=role.title(), role=role, actor=SYSTEM)
    _, secret = api_token_create(user=user, name="tests", actor=SYSTEM)
    return Client(server, secret)


@pytest.fixture
def admin(server: str) -> Client:
    """May do everything."""
    return person(server, "admin")


@pytest.fixture
def operator(server: str) -> Client:
    """Runs jobs; lets neither people nor machines in."""
    return person(server, "operator")


@pytest.fixture
def outsider(server: str) -> Client:
    """Nobody: shows no token."""
    return Client(server)
