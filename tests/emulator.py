"""The emulator of AWS of a test process."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.dynamodb_emulator import is_served_here, items_answer, serving
from tests.emulator_items import ITEMS_PATH

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_emulator(services: str = "dynamodb", *, engine: str | None = None) -> Iterator[str]:
    """Start ministack on loopback with these services (separated by commas), yield its URL, and stop it.

    The `engine` moto has all its services. The environment variable EMULATOR names the engine of the other calls.
    """
    port = free_port()
    engine = engine or os.environ.get("EMULATOR", "ministack")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.moto_process" if engine == "moto" else "tests.emulator_process"],
        cwd=ROOT,
        env={
            # Nothing of it is measured, and it would cost time.
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": services,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "ERROR",
            "PERSIST_STATE": "0",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def running_dynamodb() -> Iterator[str]:
    """The URL of a DynamoDB: ministack's in this process, unless the environment variable EMULATOR names another."""
    engine = os.environ.get("EMULATOR", "ministack")
    with running_emulator(engine=engine) if engine != "ministack" else serving("127.0.0.1", free_port()) as url:
        yield url


def items_clear(url: str) -> None:
    """Delete the items of all tables of the emulator at this URL. The tables stay."""
    _items_request(url, "DELETE")


def items_read(url: str) -> bytes:
    """The items of all tables as JSON: {table: {partition key: {sort key: item}}}, without tables that have none."""
    return _items_request(url, "GET")


def items_replace(url: str, items: bytes) -> None:
    """Replace all items of the tables by these, which come from `items_read`."""
    _items_request(url, "PUT", items)


def _items_request(url: str, method: str, body: bytes | None = None) -> bytes:
    if is_served_here(url):
        return items_answer(method, body or b"")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, ITEMS_PATH, body)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"the emulator answered {response.status} to {method} {ITEMS_PATH}")
    return answer


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the emulator ended at once")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the emulator does not answer")
