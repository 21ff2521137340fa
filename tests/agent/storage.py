"""An object storage over real HTTP: parts by PUT, ranges by GET, and faults on demand."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from agent.transfer import Download, Upload

_BLOCK = 1024 * 1024


class FakeStorage:
    """Keeps each part in a file of `folder`. A URL is valid until `expire`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.secret = secrets.token_hex(8)
        # Statuses for the next requests, None for no fault. 0 closes the connection without an answer, and -1 does so
        # in the middle.
        self.faults: list[int | None] = []
        self.puts: list[str] = []
        self.gets: list[str] = []
        # Seconds that each request takes at least.
        self.pause = 0.0
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"storage": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def expire(self) -> None:
        """From now on, all URLs so far have expired."""
        self.secret = secrets.token_hex(8)

    def url_of(self, name: str) -> str:
        return f"{self.url}/{name}?X-Amz-Signature={self.secret}"

    def upload(self, name: str, part: int, sha256: str) -> Upload:
        return Upload(part, "PUT", self.url_of(f"{name}.{part}"), {"x-amz-checksum-sha256": sha256})

    def download(self, name: str) -> Download:
        data = (self.folder / name).open("rb")
        with data:
            digest = hashlib.sha256()
            while block := data.read(_BLOCK):
                digest.update(block)
        return Download((self.folder / name).stat().st_size, digest.hexdigest(), self.url_of(name), {"X-Extra": "1"})

    def has(self, name: str, part: int) -> bool:
        return (self.folder / f"{name}.{part}").exists()

    def join(self, name: str) -> None:
        """Make one object of the parts."""
        with (self.folder / name).open("wb") as whole:
            part = 1
            while self.has(name, part):
                with (self.folder / f"{name}.{part}").open("rb") as data:
                    while block := data.read(_BLOCK):
                        whole.write(block)
                part += 1

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self.lock:
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        time.sleep(self.pause)
        try:
            yield
        finally:
            with self.lock:
                self.active -= 1


class _Handler(BaseHTTPRequestHandler):
    storage: ClassVar[FakeStorage]
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        with self.storage.busy():
            name = self._name()
            self.storage.puts.append(name)
            left = int(self.headers["Content-Length"])
            fault = self._fault()
            if fault == -1:
                self.rfile.read(left // 2)
                self.close_connection = True
                return
            digest = hashlib.sha256()
            path = self.storage.folder / f".{name}.{secrets.token_hex(4)}"
            with path.open("wb") as file:
                while left:
                    data = self.rfile.read(min(left, _BLOCK))
                    if not data:
                        path.unlink()
                        return
                    digest.update(data)
                    file.write(data)
                    left -= len(data)
            if fault is not None or not self._is_signed():
                self._answer(403 if fault is None else fault)
                return
            if digest.hexdigest() != self.headers["x-amz-checksum-sha256"]:
                self._answer(400)
                return
            path.rename(self.storage.folder / name)
            self._answer(200)

    def do_GET(self) -> None:
        with self.storage.busy():
            name = self._name()
            self.storage.gets.append(f"{name} {self.headers.get('Range')}")
            fault = self._fault()
            if fault not in (None, -1) or not self._is_signed() or self.headers["X-Extra"] != "1":
                self._answer(fault or 403)
                return
            path = self.storage.folder / name
            if not path.exists():
                self._answer(404)
                return
            size = path.stat().st_size
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            begin, end = (int(found[1]), int(found[2]) + 1) if found else (0, size)
            self.send_response(206 if found else 200)
            if found:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            with path.open("rb") as file:
                file.seek(begin)
                end = (begin + end) // 2 if fault == -1 else end
                while begin < end:
                    data = file.read(min(_BLOCK, end - begin))
                    self.wfile.write(data)
                    begin += len(data)
            self.close_connection = fault == -1

    def _name(self) -> str:
        return self.path.partition("?")[0].strip("/")

    def _is_signed(self) -> bool:
        return self.path.endswith(f"={self.storage.secret}")

    def _fault(self) -> int | None:
        with self.storage.lock:
            return self.storage.faults.pop(0) if self.storage.faults else None

    def _answer(self, status: int) -> None:
        if status == 0:
            self.close_connection = True
            return
        body = b"" if status == 200 else b"<Error><Code>SomeReason</Code><Signature>secret</Signature></Error>"
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", self.storage.url_of("elsewhere"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep requests out of the tests' output."""
