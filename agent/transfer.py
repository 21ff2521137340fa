"""Send and fetch archives by presigned URLs: in parts, several at a time, each tried again until it succeeds.

An upload asks the control plane which parts are not stored yet, so it goes on where an earlier one was interrupted. A
download keeps beside its file which pieces it has, so it goes on, too. A presigned URL is a secret: no message here
contains one. Like `agent.client`, this uses no proxy and the machine's certificates.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from agent.client import Backoff

THREADS = 4
# A download is made of pieces of so many bytes. An interruption costs less than one for each thread.
PIECE_BYTES = 16 * 1024 * 1024
# For so long no part may succeed.
PATIENCE_SECONDS = 600.0

_TIMEOUT_SECONDS = 60
_TRIES = 3
_REFUSED_ROUNDS = 3
# More than fit into the time that a transfer may take without success.
_MOST_ROUNDS = 500
_READ_BYTES = 256 * 1024
_ANSWER_BYTES = 64 * 1024
_STORAGE_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,100})</Code>")


class TransferFailed(Exception):
    """An archive could not be sent or fetched. The message says why, without the URL.

    `is_network`: the storage gave no answer, so the network between it and this machine is the most likely reason.
    """

    def __init__(self, message: str, *, is_network: bool) -> None:
        super().__init__(message)
        self.is_network = is_network


@dataclass(frozen=True)
class Upload:
    """Where and how to send one part, which is numbered from 1."""

    part: int
    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Download:
    """Where an archive is. `sha256` is hexadecimal."""

    size: int
    sha256: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class _Failed(Exception):
    """One part failed. `status` is the storage's answer, 0 if there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def upload(
    path: Path,
    *,
    part_bytes: int,
    ask: Callable[[], list[Upload]],
    check: Callable[[], None] = lambda: None,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Send the file, in parts of `part_bytes`. `ask` gives those that are not stored yet, until there are none.

    `check` is called several times a second; it may raise. After `patience` seconds without a part that succeeds this
    raises TransferFailed. Raises OSError if the file cannot be read, and what `ask` raises.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        rounds = _Rounds(check, patience)
        asked: Counter[int] = Counter()
        try:
            while uploads := ask():
                asked.update(one.part for one in uploads)
                if max(asked.values()) > _MOST_ROUNDS:
                    raise TransferFailed("the control plane asks for the same parts again and again", is_network=False)
                rounds.run([_Sending(file.fileno(), one, part_bytes, size) for one in uploads])
        finally:
            rounds.close()


def download(
    target: Path,
    first: Download,
    *,
    ask: Callable[[], Download],
    check: Callable[[], None] = lambda: None,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Fetch the file that `first` describes to `target`, which may have pieces of it from an earlier try.

    `ask` describes it anew when its URL has expired. Raises as `upload` does, and TransferFailed if the bytes are not
    those that were stored.
    """
    source: Optional[Download] = first
    for is_last in (False, True):
        with _Pieces(target, first.size) as pieces:
            rounds = _Rounds(check, patience)
            try:
                while missing := pieces.missing():
                    current = source or ask()
                    source = None
                    rounds.run([_Fetching(pieces, current, number) for number in missing])
            finally:
                rounds.close()
            if pieces.sha256(check) == first.sha256:
                pieces.forget()
                return
            pieces.discard()
        if is_last:
            break
    raise TransferFailed("what arrived has another SHA-256 than what was stored", is_network=False)


class _Sending:
    """Sends one part."""

    def __init__(self, file: int, one: Upload, part_bytes: int, size: int) -> None:
        self._file = file
        self._one = one
        self._offset = (one.part - 1) * part_bytes
        self._size = min(part_bytes, size - self._offset)
        if self._offset < 0 or self._size < 1:
            raise TransferFailed(f"the control plane asks for part {one.part}, which does not exist", is_network=False)

    def __call__(self, connections: _Connections, stop: threading.Event) -> None:
        headers = {name: value for name, value in self._one.headers.items() if name.lower() != "content-length"}
        headers["Content-Length"] = str(self._size)
        with connections.request(self._one.method, self._one.url, headers, self._body(stop)) as answer:
            if not 200 <= answer.status < 300:
                raise _refusal(answer)

    def _body(self, stop: threading.Event) -> Iterator[bytes]:
        offset, end = self._offset, self._offset + self._size
        while offset < end:
            if stop.is_set():
                raise _Failed("it was interrupted")
            data = os.pread(self._file, min(_READ_BYTES, end - offset), offset)
            if not data:
                raise _Failed("the archive became shorter")
            offset += len(data)
            yield data


class _Fetching:
    """Fetches one piece."""

    def __init__(self, pieces: _Pieces, source: Download, number: int) -> None:
        self._pieces = pieces
        self._source = source
        self._number = number

    def __call__(self, connections: _Connections, stop: threading.Event) -> None:
        begin, end = self._pieces.bounds(self._number)
        headers = dict(self._source.headers)
        if end - begin < self._source.size:
            headers["Range"] = f"bytes={begin}-{end - 1}"
        with connections.request("GET", self._source.url, headers) as answer:
            if answer.status not in (200, 206):
                raise _refusal(answer)
            if "Range" in headers and not str(answer.getheader("Content-Range")).startswith(
                f"bytes {begin}-{end - 1}/"
            ):
                raise _Failed("the storage did not send the range of bytes that the agent asked for", answer.status)
            offset = begin
            while offset < end:
                if stop.is_set():
                    raise _Failed("it was interrupted")
                data = answer.read(min(_READ_BYTES, end - offset))
                if not data:
                    raise _Failed("the answer is cut off")
                self._pieces.write(data, offset)
                offset += len(data)
        self._pieces.complete(self._number)


class _Pieces:
    """The file of a download. A file beside it has one byte for each piece: 1 when it is complete."""

    def __init__(self, target: Path, size: int) -> None:
        """Raises OSError."""
        self._size = size
        self._target = target
        self._state_path = target.with_name(f"{target.name}.pieces")
        self._count = max(1, -(-size // PIECE_BYTES))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(target, flags, 0o600)
        self._state = os.open(self._state_path, flags, 0o600)
        if os.fstat(self._file).st_size != size or os.fstat(self._state).st_size != self._count:
            self.discard()

    def __enter__(self) -> _Pieces:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._state)

    def missing(self) -> list[int]:
        done = os.pread(self._state, self._count, 0)
        return [number for number in range(self._count) if done[number : number + 1] != b"\1"]

    def bounds(self, number: int) -> tuple[int, int]:
        return number * PIECE_BYTES, min((number + 1) * PIECE_BYTES, self._size)

    def write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view = view[written:]
            offset += written

    def complete(self, number: int) -> None:
        os.pwrite(self._state, b"\1", number)

    def sha256(self, check: Callable[[], None]) -> str:
        digest = hashlib.sha256()
        offset = 0
        while data := os.pread(self._file, _READ_BYTES, offset):
            check()
            digest.update(data)
            offset += len(data)
        return digest.hexdigest()

    def discard(self) -> None:
        """Begin anew."""
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, self._size)
        os.ftruncate(self._state, 0)
        os.ftruncate(self._state, self._count)

    def forget(self) -> None:
        """The file is complete."""
        self._state_path.unlink()


_Task = Callable[["_Connections", threading.Event], None]


class _Rounds:
    """Runs tasks in threads, round after round, until all have succeeded or none succeeds for too long."""

    def __init__(self, check: Callable[[], None], patience: float) -> None:
        self._check = check
        self._patience = patience
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="transfer")
        self._connections = _Connections()
        self._backoff = Backoff(limit=30.0)
        self._last_success = time.monotonic()
        self._refused = 0

    def run(self, tasks: list[_Task]) -> None:
        """Run each task once, with a few tries. Raises TransferFailed, OSError and what `check` raises."""
        pending = {self._pool.submit(self._try, task) for task in tasks}
        failure: Optional[_Failed] = None
        succeeded = False
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            self._check()
            for future in done:
                error = _error(future)
                failure = error or failure
                succeeded = succeeded or error is None
        if succeeded:
            self._last_success = time.monotonic()
            self._refused = 0
            self._backoff.reset()
        if failure is not None:
            self._pause(failure)

    def close(self) -> None:
        """End the threads and their connections."""
        self._stop.set()
        self._connections.interrupt()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._connections.close()

    def _try(self, task: _Task) -> None:
        backoff = Backoff(limit=5.0)
        for left in reversed(range(_TRIES)):
            if self._stop.is_set():
                return
            try:
                task(self._connections, self._stop)
                return
            except _Failed as error:
                if not left or 400 <= error.status < 500:
                    raise
            self._stop.wait(backoff.pause(None))

    def _pause(self, failure: _Failed) -> None:
        """Wait before the next round. Raises TransferFailed if there is no hope any more."""
        is_refusal = 300 <= failure.status < 500 and failure.status not in (408, 429)
        self._refused += is_refusal
        if self._refused >= _REFUSED_ROUNDS or time.monotonic() - self._last_success > self._patience:
            raise TransferFailed(str(failure), is_network=failure.status == 0)
        if failure.status == 403 and self._refused == 1:
            return
        until = time.monotonic() + self._backoff.pause(None)
        while time.monotonic() < until:
            self._check()
            self._stop.wait(0.2)


def _error(future: Future[None]) -> Optional[_Failed]:
    """The failure of a part. Raises what is about the whole transfer, such as a full disk."""
    error = future.exception()
    if error is None or isinstance(error, _Failed):
        return error
    raise error


class _Connections:
    """One connection for each thread and host, used again as long as it works."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._lock = threading.Lock()
        self._all: list[http.client.HTTPConnection] = []
        self._tls: Optional[ssl.SSLContext] = None
        self._is_over = False

    @contextmanager
    def request(
        self, method: str, url: str, headers: dict[str, str], body: Optional[Iterator[bytes]] = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to the request. Raises _Failed if there is none, or if it ends early."""
        connection, target = self._connection(url)
        try:
            answer = _exchange(connection, method, target, headers, body)
            yield answer
            answer.read(_ANSWER_BYTES)
            if not answer.isclosed():
                connection.close()
        except _Failed:
            connection.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            # Messages of http.client may contain the URL.
            why = error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
            raise _Failed(f"no answer from the storage ({why})") from None

    def interrupt(self) -> None:
        """Let requests that wait for the storage fail at once. There are no new ones."""
        with self._lock:
            self._is_over = True
            connections = list(self._all)
        for connection in connections:
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        try:
            parts = urlsplit(url)
            place = (parts.scheme, parts.hostname, parts.port)
        except ValueError:
            place = ("", None, None)
        if place[0] not in ("http", "https") or not place[1]:
            raise _Failed("the control plane named no address of the storage", 400)
        known: dict[tuple[str, Optional[str], Optional[int]], http.client.HTTPConnection]
        known = self._own.__dict__.setdefault("known", {})
        if place not in known:
            try:
                known[place] = self._new(*place)
            except (http.client.InvalidURL, ValueError):
                raise _Failed("the control plane named no address of the storage", 400) from None
        return known[place], parts.path + (f"?{parts.query}" if parts.query else "")

    def _new(self, scheme: str, host: Optional[str], port: Optional[int]) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        with self._lock:
            if self._is_over:
                raise _Failed("it was interrupted")
            if scheme == "https":
                self._tls = self._tls or ssl.create_default_context()
                connection = http.client.HTTPSConnection(host or "", port, timeout=_TIMEOUT_SECONDS, context=self._tls)
            else:
                connection = http.client.HTTPConnection(host or "", port, timeout=_TIMEOUT_SECONDS)
            self._all.append(connection)
        return connection


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: Optional[Iterator[bytes]],
) -> http.client.HTTPResponse:
    try:
        connection.request(method, target or "/", body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        # A storage that refuses a part answers before it has read all of it.
        with suppress(OSError, http.client.HTTPException):
            return connection.getresponse()
        raise
    return connection.getresponse()


def _refusal(answer: http.client.HTTPResponse) -> _Failed:
    found = _STORAGE_CODE.search(answer.read(_ANSWER_BYTES))
    code = f" ({found[1].decode()})" if found else ""
    return _Failed(f"the storage answered {answer.status}{code}", answer.status)
