"""``manage.py github_app``: create a GitHub App from a terminal, with a browser on the same machine."""

import hmac
import json
import secrets
import time
from html import escape
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.sources.services.github_apps import AppBeginning, app_begin, app_complete
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError

_HOST = "127.0.0.1"
# So long GitHub's code lives.
_MOST_MINUTES = 60


class Command(BaseCommand):
    help = (
        "Create a GitHub App for this control plane and store it as a connection. It prints an address to open in a "
        "browser on this machine, where one click creates the app."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", default=settings.PUBLIC_URL, help="the control plane's own address, by which GitHub reaches it"
        )
        parser.add_argument("--organisation", help="the organisation that owns the app; else your own account")
        parser.add_argument("--github", default=settings.GITHUB_URL, help="https://github.com, or an enterprise host")
        parser.add_argument("--name", help="the name of the app at GitHub")
        parser.add_argument("--connection", default="github", help="the id of the connection that is made")
        parser.add_argument("--port", type=int, default=0, help="on which port of this machine to wait; 0: any")
        parser.add_argument("--minutes", type=int, default=15, help="how long to wait for the browser")

    def handle(self, *args: Any, url: str, organisation: str | None, minutes: int, port: int, **options: Any) -> None:
        if not url:
            raise CommandError("Say with --url by which address GitHub reaches the control plane, or set PUBLIC_URL.")
        if not 1 <= minutes <= _MOST_MINUTES:
            raise CommandError(f"--minutes must be 1 to {_MOST_MINUTES}.")
        base_url = url.rstrip("/")
        server = _Server(port)
        try:
            beginning = app_begin(
                actor=SYSTEM,
                base_url=base_url,
                redirect_url=f"{server.url}/made",
                setup_url=f"{base_url}/dashboard/repositories",
                connection_id=options["connection"],
                name=options["name"],
                organisation=organisation,
                web_url=options["github"].rstrip("/"),
            )
            self.stdout.write(f"Open {server.url}/{server.secret} in a browser on this machine.")
            self.stdout.flush()
            code = server.wait(beginning, until=time.monotonic() + 60 * minutes)
            if code is None:
                raise CommandError(f"The browser did not come back from GitHub within {minutes} minutes.")
            connection = app_complete(actor=SYSTEM, kept=beginning.kept, state=beginning.kept["state"], code=code)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        finally:
            server.server_close()
        install = (connection.facts or {}).get("app_url")
        self.stdout.write(f"The connection {connection.connection_id} has the GitHub App {connection.app_slug}.")
        if install:
            self.stdout.write(f"Install it for your repositories: {install}/installations/new")


class _Server(HTTPServer):
    """Serves a page with the button, and waits for the browser to come back from GitHub. Both on this machine alone.

    The page is at an address with a secret, so another user of the machine cannot create the app.
    """

    def __init__(self, port: int) -> None:
        super().__init__((_HOST, port), _Handler)
        self.secret = secrets.token_urlsafe(16)
        self.url = f"http://{_HOST}:{self.server_address[1]}"
        self.beginning: AppBeginning | None = None
        self.code: str | None = None

    def wait(self, beginning: AppBeginning, *, until: float) -> str | None:
        """The code that the browser brings back with the right state; None if it does not come in time."""
        self.beginning = beginning
        while self.code is None and time.monotonic() < until:
            self.timeout = max(0.0, min(1.0, until - time.monotonic()))
            self.handle_request()
        return self.code


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # Browsers open connections in advance, which must not keep others waiting.
    timeout = 2

    def do_GET(self) -> None:
        """The page with the button, or the way back."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        beginning = self.server.beginning
        # A name that leads to this machine is not this machine: a page elsewhere could have it.
        if beginning is None or self.headers.get("Host") != urlsplit(self.server.url).netloc:
            self._answer(404, "Not found.")
        elif hmac.compare_digest(url.path.encode(), f"/{self.server.secret}".encode()):
            self._answer(200, _form(beginning))
        elif url.path == "/made" and hmac.compare_digest(query.get("state", "").encode(), _state(beginning)):
            self.server.code = query.get("code", "")
            self._answer(200, "<p>You can close this page. The terminal says what has become of it.</p>")
        else:
            self._answer(404, "Not found.")

    def _answer(self, status: int, body: str) -> None:
        content = f"<!doctype html><meta charset=utf-8><title>GitHub App</title>{body}".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Requests are not worth a line: they have the code."""


def _state(beginning: AppBeginning) -> bytes:
    return beginning.kept["state"].encode()


def _form(beginning: AppBeginning) -> str:
    manifest, host = escape(json.dumps(beginning.manifest), quote=True), escape(urlsplit(beginning.url).netloc)
    return (
        f'<form method="post" action="{escape(beginning.url, quote=True)}">'
        f'<input type="hidden" name="manifest" value="{manifest}">'
        f"<button>Create {escape(str(beginning.manifest['name']))} at {host}</button></form>"
    )
