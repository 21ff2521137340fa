"""A git server over HTTP, with git's own http-backend behind it. It counts what clients fetch.

It can demand a user name and a password, and then knows with which credentials clients came.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LARGE = "/large/"


class GitServer:
    """Serves the bare repositories in a folder under `url`. `sent` is how many bytes of packs it has sent.

    `accepts` says of a user name, a password and a path whether they may pass; None: all may. `given` are the
    credentials with which requests came. `redirects` are where requests for a path go instead.
    """

    def __init__(self, folder: Path, accepts: Callable[[str, str, str], bool] | None = None) -> None:
        self.sent = 0
        self.fetches = 0
        self.folder = folder
        self.accepts = accepts
        self.given: list[tuple[str, str]] = []
        self.redirects: dict[str, str] = {}
        # Files of Git LFS by their ids.
        self.large: dict[str, bytes] = {}
        # Called with each request.
        self.watch: Callable[[], None] = lambda: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"git": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def may(self, header: str, path: str) -> bool:
        """Whether a request with this header Authorization may read the path."""
        if self.accepts is None or not header.startswith("Basic "):
            return self.accepts is None
        user, _, password = base64.b64decode(header[6:]).decode().partition(":")
        self.given.append((user, password))
        return self.accepts(user, password, path)

    def large_links(self, asked: bytes) -> bytes:
        """Where the files of LFS are that a client asks for. The links need no password, as at GitHub."""
        objects = [
            {**one, "actions": {"download": {"href": f"{self.url}{_LARGE}{one['oid']}"}}}
            for one in json.loads(asked)["objects"]
        ]
        return json.dumps({"transfer": "basic", "objects": objects}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    git: GitServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.git.watch()
        if path.startswith(_LARGE):
            self._send(200, {"Content-Type": "application/octet-stream"}, self.git.large[path.removeprefix(_LARGE)])
        elif path in self.git.redirects:
            self._send(302, {"Location": f"{self.git.redirects[path]}?{query}"}, b"")
        elif not self.git.may(self.headers.get("Authorization", ""), path):
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
        elif path.endswith("/info/lfs/objects/batch"):
            self._send(200, {"Content-Type": "application/vnd.git-lfs+json"}, self.git.large_links(body))
        else:
            headers, content = git_answer(self.git.folder, self, path, query, body)
            if b"command=fetch" in body and b"packfile" in content[:2000]:
                self.git.fetches += 1
                self.git.sent += len(content)
            self._send(int(headers.pop("Status", "200 OK").split()[0]), headers, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def git_answer(
    folder: Path, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes
) -> tuple[dict[str, str], bytes]:
    """Headers and content of the answer that git's own http-backend gives."""
    env = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REQUEST_METHOD": request.command,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "REMOTE_USER": "test",
    }
    done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.decode().splitlines()), content
