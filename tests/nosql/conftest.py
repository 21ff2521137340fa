"""Here the calls of DynamoDB are the subject: they go over HTTP, as in production."""

from collections.abc import Iterator

import pytest

from controlplane.nosql.connection import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, shared_connection
from controlplane.nosql.transport import Transport


@pytest.fixture(autouse=True)
def _over_http(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    transport = Transport(emulator, connect_timeout=CONNECT_TIMEOUT_SECONDS, read_timeout=READ_TIMEOUT_SECONDS)
    monkeypatch.setattr(shared_connection().client._endpoint, "http_session", transport)
    yield
    transport.close()
