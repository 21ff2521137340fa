"""The people and programs of the tests, as clients of the real server."""

from typing import Any

import requests


class Client:
    """Sends requests to the control plane over HTTP: as a user's program with `token`, else unauthenticated."""

    def __init__(self, server: str, token: str | None = None) -> None:
        self.server = server
        self.token = token
        self.session = requests.Session()
        # Nothing of the machine's own configuration may answer for us.
        self.session.trust_env = False
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        arguments.setdefault("timeout", 30)
        arguments.setdefault("allow_redirects", False)
        return self.session.request(method, self.server + path, **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("POST", path, **arguments)

    def put(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("PUT", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("DELETE", path, **arguments)


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that must be this problem, as RFC 9457 wants it."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(body)
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code), body
    assert body["title"]
    assert body["detail"]
    return body
