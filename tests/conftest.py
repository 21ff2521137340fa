"""What every test can ask for: the emulator's tables, a real HTTP server, and three people."""

import os
import threading
from collections.abc import Iterator

import pytest
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

from controlplane.nosql.tables import create_tables, record_tables
from tests.emulator import running_emulator


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of a DynamoDB emulator with all tables, one for each test process."""
    with running_emulator() as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        list(create_tables())
        yield url


@pytest.fixture
def tables(emulator: str) -> Iterator[None]:
    """Empty tables; what the test wrote is deleted after it."""
    yield
    for kinds in record_tables().values():
        kind = kinds[0]
        connection = kind._get_connection()
        keys = connection.get_meta_table().get_key_names()
        for page in iter(lambda: connection.scan(), None):
            items = page["Items"]
            for item in items:
                connection.connection.client.delete_item(
                    TableName=kind.Meta.table_name, Key={name: item[name] for name in keys}
                )
            if "LastEvaluatedKey" not in page:
                break


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
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
