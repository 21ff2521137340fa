"""A PostgreSQL server of Debian's packages, with two roles in turn and the admin who changes them."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from tests.emulator import free_port

ADMIN_PASSWORD = "password of the admin"
OLD_PASSWORD = "password-before-the-rotation"


def programs() -> Path | None:
    """The directory of initdb and postgres, or None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class Database:
    """The server, which knows passwords by SCRAM only."""

    port: int

    def value(self, role: str, password: str) -> str:
        """What clients of the role connect by."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/app"

    def config(self) -> dict[str, Any]:
        """The rotator's configuration."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "database": "app",
            "roles": ["app_a", "app_b"],
            "admin_role": "rotator",
            "admin_secret": "DB_ADMIN",
            "tls": False,
        }

    def lets_in(self, value: str) -> bool:
        """Whether a client can connect by this value."""
        parts = urlsplit(value)
        try:
            connection = Connection(
                parts.username,
                host="127.0.0.1",
                port=self.port,
                database="app",
                password=parts.password,
                ssl_context=False,
            )
            connection.close()
        except (DatabaseError, InterfaceError):
            return False
        return True

    def reset(self) -> None:
        """As before a rotation: `app_a` has the old password, and `app_b` none."""
        connection = _connected(self.port, "rotator", ADMIN_PASSWORD)
        connection.run(f"ALTER ROLE app_a WITH PASSWORD '{OLD_PASSWORD}'")
        connection.run("ALTER ROLE app_b WITH PASSWORD NULL")
        connection.close()


@contextmanager
def database_running() -> Iterator[Database]:
    """Start a server, and stop it. It refuses to run as root, so root starts it as the user of Debian's package."""
    home = programs()
    assert home is not None
    with tempfile.TemporaryDirectory(prefix="hybrid-ci-postgresql-") as name:
        folder, user = Path(name), {}
        if os.geteuid() == 0:
            user = {"user": "postgres", "group": "postgres"}
            shutil.chown(folder, "postgres", "postgres")
        with _server_running(home, folder, user) as database:
            yield database


@contextmanager
def _server_running(home: Path, folder: Path, user: dict[str, Any]) -> Iterator[Database]:
    data, password = folder / "data", folder / "password"
    password.write_text(ADMIN_PASSWORD)
    password.chmod(0o644)
    make = [str(home / "initdb"), "-D", str(data), "-U", "rotator", "-A", "scram-sha-256", "--pwfile", str(password)]
    subprocess.run(
        [*make, "--no-sync", "--no-locale", "-E", "UTF8"], check=True, capture_output=True, cwd=folder, **user
    )
    port = free_port()
    options = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "log_min_messages": "fatal",
        "shared_buffers": "8MB",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [home / "postgres", "-D", data, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **user,
    )
    try:
        _prepare(port)
        yield Database(port)
    finally:
        server.terminate()
        server.wait(20)


def _connected(port: int, role: str, password: str, database: str = "app") -> Connection:
    return Connection(role, host="127.0.0.1", port=port, database=database, password=password, ssl_context=False)


def _prepare(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            admin = Connection(
                "rotator", host="127.0.0.1", port=port, database="postgres", password=ADMIN_PASSWORD, ssl_context=False
            )
            break
        except (DatabaseError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for statement in (
        "CREATE DATABASE app",
        "CREATE ROLE app_owner NOLOGIN",
        f"CREATE ROLE app_a LOGIN PASSWORD '{OLD_PASSWORD}' IN ROLE app_owner",
        "CREATE ROLE app_b LOGIN IN ROLE app_owner",
    ):
        admin.run(statement)
    admin.close()
