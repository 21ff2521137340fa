"""A small OAuth provider over HTTP that answers as Google and as GitHub do: code, PKCE, userinfo, organisations."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_ID = "the-client"
CLIENT_SECRET = "the-client's-secret"

# What GitHub answers only to a token with a scope.
_SCOPES = {"/user/emails": "user:email", "/user/orgs": "read:org"}


@dataclass
class Person:
    """A user with an account at the provider.

    `hosted_domain` is the domain whose Google Workspace manages the account: that of the address, or "" for none.
    `scopes` are what their access tokens allow at GitHub; without them it answers `without_scope`.
    """

    subject: str = "1001"
    email: str = "ada@example.com"
    verified: bool = True
    name: str = "Ada Lovelace"
    organisations: list[dict[str, Any]] = field(default_factory=list)
    hosted_domain: str | None = None
    picture: Any = "https://pictures.example/ada.png?s=96"
    scopes: frozenset[str] = frozenset({"user:email", "read:org"})
    without_scope: int = 404


@dataclass
class _Grant:
    person: Person
    client_id: str
    redirect_uri: str
    challenge: str
    used: bool = False


class Provider:
    """What the test sets: who is at the browser, and how the provider behaves."""

    def __init__(self) -> None:
        self.url = ""
        self.person = Person()
        self.denies = False
        # What it answers to an exchange of a code: an error and a status.
        self.exchange_error: tuple[str, int] | None = None
        # Whether tokens end between the question whose they are and the questions about the person.
        self.revokes = False
        # Of an answer to a token without a scope.
        self.headers: dict[str, str] = {}
        self.status: int | None = None
        self.codes: dict[str, _Grant] = {}
        self.tokens: dict[str, tuple[Person, str]] = {}
        self.asked: list[str] = []

    def token(self, person: Person | None = None, *, client_id: str = CLIENT_ID) -> str:
        """An access token that was given to an application."""
        token = secrets.token_urlsafe(16)
        self.tokens[token] = (person or self.person, client_id)
        return token


class _Handler(BaseHTTPRequestHandler):
    provider: Provider
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.provider.asked.append(url.path)
        if self.provider.status:
            self._answer({"error": "server_error"}, self.provider.status)
        elif url.path in ("/o/oauth2/v2/auth", "/login/oauth/authorize"):
            self._authorise(query)
        elif url.path == "/tokeninfo":
            self._token_info(query.get("access_token", ""))
        else:
            self._about_person(url.path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.provider.asked.append(path)
        if self.provider.status:
            self._answer({"error": "server_error"}, self.provider.status)
        elif path in ("/token", "/login/oauth/access_token"):
            self._exchange({name: values[0] for name, values in parse_qs(body.decode()).items()})
        elif path == f"/applications/{CLIENT_ID}/token":
            self._application_token(json.loads(body))
        else:
            self._answer({}, 404)

    def _authorise(self, query: dict[str, str]) -> None:
        assert query["client_id"] == CLIENT_ID
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"]}
        if self.provider.denies:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            self.provider.codes[back["code"]] = _Grant(
                self.provider.person, CLIENT_ID, query["redirect_uri"], query["code_challenge"]
            )
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urlencode(back)}")
        self.end_headers()

    def _exchange(self, form: dict[str, str]) -> None:
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return self._answer({"error": "invalid_client"}, 401)
        if self.provider.exchange_error:
            error, status = self.provider.exchange_error
            return self._answer({"error": error, "error_description": "as the test wants it"}, status)
        grant = self.provider.codes.get(form.get("code", ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            grant is None
            or grant.used
            or grant.challenge != challenge
            or grant.redirect_uri != form.get("redirect_uri")
            or form.get("grant_type") != "authorization_code"
        ):
            return self._answer({"error": "invalid_grant"}, 400)
        grant.used = True
        return self._answer({"access_token": self.provider.token(grant.person), "token_type": "Bearer"})

    def _token_info(self, token: str) -> None:
        if token not in self.provider.tokens:
            return self._answer({"error": "invalid_token"}, 400)
        person, client_id = self.provider.tokens[token]
        return self._answer({"aud": client_id, "sub": person.subject, "expires_in": "3599"})

    def _application_token(self, body: dict[str, str]) -> None:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        found = self.provider.tokens.get(body["access_token"])
        if self.headers.get("Authorization") != f"Basic {basic}" or found is None or found[1] != CLIENT_ID:
            return self._answer({"message": "Not Found"}, 404)
        return self._answer({"app": {"client_id": CLIENT_ID}, "user": {"id": int(found[0].subject)}})

    def _about_person(self, path: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.provider.tokens or self.provider.revokes:
            return self._answer({"message": "Bad credentials"}, 401)
        person = self.provider.tokens[token][0]
        known: dict[str, Any] = {
            "/v1/userinfo": _user_info(person),
            # GitHub returns a public address here, which proves nothing.
            "/user": {
                "id": _number(person.subject),
                "login": "ada",
                "avatar_url": person.picture,
                "name": person.name,
                "email": "public@example.com",
            },
            "/user/emails": [
                {"email": "other@example.com", "primary": False, "verified": True},
                {"email": person.email, "primary": True, "verified": person.verified},
            ],
            "/user/orgs": person.organisations,
        }
        if path in _SCOPES and _SCOPES[path] not in person.scopes:
            return self._answer({"message": "Not Found"}, person.without_scope, **self.provider.headers)
        return self._answer(known.get(path, {}), 200 if path in known else 404)

    def _answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Not worth a line in the tests' output."""


def _user_info(person: Person) -> dict[str, Any]:
    domain = person.email.rpartition("@")[2] if person.hosted_domain is None else person.hosted_domain
    return {
        "sub": person.subject,
        "email": person.email,
        "email_verified": person.verified,
        "name": person.name,
        "picture": person.picture,
        **({"hd": domain} if domain else {}),
    }


def _number(subject: str) -> int | None:
    return int(subject) if subject.isdigit() else None


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Serve a provider on loopback."""
    provider = Provider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield provider
    server.shutdown()
    server.server_close()
