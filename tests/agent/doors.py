"""More addresses of a fake control plane, each of which can go away by itself."""

from __future__ import annotations

import threading
from typing import ClassVar

from tests.agent.fake_server import FakeControlPlane, _Handler, _Server


class Door:
    """An address of the control plane. What it is asked is in `seen`, whether or not it answers."""

    def __init__(self, plane: FakeControlPlane, prefix: str = "", *, is_open: bool = True) -> None:
        self.seen: list[str] = []
        # It accepts connections and requests, and never answers.
        self.is_silent = False
        # The status, headers and media type with which it answers itself, as a gateway does.
        self.page: tuple[int, dict[str, str]] | None = None
        self.over = threading.Event()
        self._handler = type("Handler", (_DoorHandler,), {"plane": plane, "door": self})
        self._server: _Server | None = _Server(("127.0.0.1", 0), self._handler)
        self._port = self._server.server_address[1]
        if prefix:
            plane.more_prefixes.append(prefix)
        self.url = f"http://127.0.0.1:{self._port}{prefix}"
        self._serve()
        if not is_open:
            self.close()

    @property
    def is_open(self) -> bool:
        return self._server is not None

    def close(self) -> None:
        """Refuse connections, and end those that are open with their next request."""
        self.over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def open(self) -> None:
        """Accept connections again."""
        self.over.clear()
        self._server = _Server(("127.0.0.1", self._port), self._handler)
        self._serve()

    def _serve(self) -> None:
        assert self._server is not None
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _DoorHandler(_Handler):
    door: ClassVar[Door]

    def do_POST(self) -> None:  # noqa: N802 — the name that the base class looks for
        self.door.seen.append(self.path)
        if self.door.is_silent:
            self.door.over.wait(30)
        if self.door.is_silent or not self.door.is_open:
            self.close_connection = True
        elif self.door.page is not None:
            status, headers = self.door.page
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {"Content-Type": "text/html", "Content-Length": "4", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"page")
        else:
            super().do_POST()

    do_GET = do_POST  # noqa: N815 — the name that the base class looks for
