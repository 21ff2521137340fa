"""The responses to invalid requests and to bugs."""

import io
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest
import requests
from django.test import RequestFactory, override_settings

from controlplane.http.problems import error_response, problem_body
from controlplane.lib.errors import InvalidInput
from tests.clients import Client
from tests.http.broken_urls import SECRET

JSON = {"Content-Type": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PATH = "/pipelines/self"


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that the response is the expected problem; return its body."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(body)
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]
    return body


def raw_exchange(server: str, request: bytes) -> tuple[int, bytes]:
    """Status and body of the response to a request that no HTTP client would send."""
    address = urlsplit(server)
    assert address.hostname
    with socket.create_connection((address.hostname, address.port or 80), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def broken(server: str) -> Iterator[Client]:
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        yield Client(server)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"{'a': 1}",
        b'{"repository": NaN}',
        b'{"repository": 1e999}',
        b'{"repository": "\xff"}',
        '{"repository": "é"}'.encode("utf-16"),
        b'{"repository": "\\ud800"}',
        b'{"repository": "a\x00b"}',
        b'{"a":' * 50_000,
        b"[" * 500_000,
        b"9" * 5000,
        b"[]",
        b"null",
        b'"text"',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_a_json_object_is_malformed(operator: Client, body: bytes) -> None:
    answer = operator.put(PATH, data=body, headers=JSON)
    if body:
        problem(answer, 400, "malformed_json")
    else:
        assert problem(answer, 400, "invalid_input")["errors"] == [{"field": "repository", "message": "must be given"}]


def test_missing_invalid_and_unknown_members_are_named(operator: Client) -> None:
    body = problem(operator.put(PATH, json={"repository": ["a"], "default_ref": {}}), 400, "invalid_input")
    assert [error["field"] for error in body["errors"]] == ["repository", "default_ref"]
    body = problem(operator.put(PATH, json={"repository": "/a", "defaultref": "x"}), 400, "invalid_input")
    assert body["errors"] == [{"field": "defaultref", "message": "must not be given; did you mean default_ref?"}]


def test_a_nul_in_a_text_is_refused(operator: Client) -> None:
    body = problem(operator.put(PATH, json={"repository": "/a\x00b"}), 400, "invalid_input")
    assert [error["field"] for error in body["errors"]] == ["repository"]


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "١", "9" * 30])
def test_a_length_that_is_not_a_number_is_refused(server: str, length: str) -> None:
    head = f"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    status, body = raw_exchange(server, head.encode())
    assert (status, json.loads(body)["code"]) == (400, "invalid_content_length")


def test_a_chunked_body_does_not_count_as_empty(server: str) -> None:
    head = b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    status, body = raw_exchange(server, head)
    assert (status, json.loads(body)["code"]) == (411, "length_required")


def test_a_body_that_ends_early_is_refused(operator: Client, server: str) -> None:
    head = (
        f"PUT {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {operator.token}\r\n"
        'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"repository": '
    )
    address = urlsplit(server)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=10) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 400 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("megabytes", [2, 20])
def test_a_body_that_is_too_large_is_refused_and_the_client_gets_the_response(operator: Client, megabytes: int) -> None:
    body = json.dumps({"repository": "x" * megabytes * 1024 * 1024})
    problem(operator.put(PATH, data=body, headers=JSON), 413, "too_large")


def test_a_body_that_is_too_large_is_read_to_its_end() -> None:
    """Servers close a connection with unread data and lose the response; the tests' own server reads all data."""
    from controlplane.wsgi import application

    body = io.BytesIO(b"x" * 3 * 1024 * 1024)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/agents/enrol",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body.getvalue())),
        "wsgi.input": body,
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    start_response: Any = lambda status, _: statuses.append(status)  # noqa: E731
    application(environ, start_response)
    assert statuses[0].startswith("413 ")
    assert body.read() == b""


def test_another_media_type_is_refused(operator: Client) -> None:
    problem(
        operator.put(PATH, data="repository: x", headers={"Content-Type": "text/yaml"}), 415, "unsupported_media_type"
    )


def test_an_unsupported_method_is_refused_with_the_allowed_ones(operator: Client) -> None:
    answer = operator.post(PATH, json={})
    problem(answer, 405, "method_not_allowed")
    assert {"GET", "PUT", "DELETE"} <= set(answer.headers["Allow"].split(", "))


def test_a_plain_view_refuses_an_unsupported_method_in_the_same_way(outsider: Client) -> None:
    answer = outsider.post("/health")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


def test_an_unsupported_response_format_is_refused(operator: Client) -> None:
    problem(operator.get("/pipelines", headers={"Accept": "application/xml"}), 406, "not_acceptable")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer hcp_wrong"}, {"Authorization": "Basic YTpi"}])
def test_every_rejected_credential_gets_the_same_challenge(outsider: Client, headers: dict[str, str]) -> None:
    answer = outsider.get("/pipelines", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_address_is_a_problem_for_a_program_and_a_page_for_a_browser(outsider: Client) -> None:
    problem(outsider.get("/nothing/here"), 404, "not_found")
    problem(outsider.get("/jobs/01kb0000000000000000000000/nothing"), 404, "not_found")
    page = outsider.get("/nothing/here", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not found</h1>" in page.text


def test_a_foreign_host_is_refused(outsider: Client) -> None:
    problem(outsider.get("/pipelines", headers={"Host": "evil.example"}), 400, "invalid_input")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=%00", "limit=1&limit=2"]
)
def test_an_out_of_range_parameter_is_named(operator: Client, query: str) -> None:
    body = problem(operator.get(f"/pipelines?{query}"), 400, "invalid_input")
    assert [error["field"] for error in body["errors"]] == ["limit"]


def test_an_unknown_parameter_is_named(operator: Client) -> None:
    body = problem(operator.get("/pipelines?limt=5"), 400, "invalid_input")
    assert [error["field"] for error in body["errors"]] == ["limt"]


@pytest.mark.parametrize("cursor", ["x", "%00", "%FF", "x" * 9000, "eyJuYW1lIjoiYSJ9.AAAA"])
def test_a_forged_cursor_is_refused(operator: Client, cursor: str) -> None:
    answer = operator.get(f"/pipelines?cursor={cursor}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["cursor"]


@pytest.mark.parametrize("path", ["/plain-bug", "/api-bug"])
def test_a_bug_is_a_problem_without_details_of_the_error(broken: Client, path: str) -> None:
    answer = broken.get(path)
    problem(answer, 500, "internal_error")
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text


def test_a_bug_is_a_page_for_a_browser(broken: Client) -> None:
    page = broken.get("/plain-bug", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (500, "text/html; charset=utf-8")
    assert SECRET not in page.text


def test_a_bug_is_logged_once(broken: Client, caplog: pytest.LogCaptureFixture) -> None:
    broken.get("/api-bug")
    with_trace = [record for record in caplog.records if record.exc_info]
    assert len(with_trace) == 1
    assert SECRET in caplog.text


def test_an_unavailable_database_is_a_problem_with_retry_after(broken: Client) -> None:
    answer = broken.get("/plain-unavailable")
    problem(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_problem_lists_twenty_errors_and_cuts_their_texts() -> None:
    errors = [{"field": "f" * 9000, "message": "m" * 9000, "line": 5} for _ in range(50)]
    body = problem_body(InvalidInput("d" * 9000, errors=errors))
    assert len(body["errors"]) == 20
    assert len(json.dumps(body)) < 17_000
    assert len(body["detail"]) == 1000
    assert body["errors"][0]["line"] == 5
    assert body["errors"][0]["field"].endswith("…")


@pytest.mark.parametrize("path", ["/dashboard/", "/admin/", "/admin/jobs/job/"])
def test_a_redirect_to_the_sign_in_page_does_not_repeat_a_long_address(outsider: Client, path: str) -> None:
    short = outsider.get(f"{path}?a=b").headers["Location"]
    assert short.endswith("%3Fa%3Db")
    long = outsider.get(f"{path}?{'%C3' * 2600}").headers["Location"]
    assert short.startswith(f"{long}?next=")
    address = f"{outsider.server}/{'x' * 8000}"
    live = outsider.get("/dashboard/", headers={"HX-Request": "true", "HX-Current-URL": address})
    assert live.headers["HX-Redirect"] == "/signin"


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("/jobs/zzz", "job_not_found", "There is no such job."),
        ("/jobs/zzz/log", "job_not_found", "There is no such job."),
        ("/runs/zzz", "run_not_found", "There is no such run."),
        ("/deployments/zzz", "deployment_not_found", "There is no such deployment."),
    ],
)
def test_an_address_with_something_else_than_an_id_says_what_is_not_there(
    outsider: Client, path: str, code: str, said: str
) -> None:
    assert problem(outsider.get(path), 404, code)["detail"] == said
    page = outsider.get(f"/dashboard{path}", headers={"Accept": "text/html"})
    assert (page.status_code, said in page.text) == (404, True)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidInput.field("ended", "must be a day, as 2026-11-21"), "Ended must be a day, as 2026-11-21. Go back"),
        (InvalidInput.field("git_ref", "must be a ref"), "Git ref must be a ref. Go back"),
        (InvalidInput.field("jobs[0].run", "must be a text"), "jobs[0].run: must be a text. Go back"),
        (InvalidInput("The body is not a form."), "The body is not a form. Go back"),
    ],
)
def test_a_page_says_what_is_wrong_in_a_sentence(error: InvalidInput, sentence: str) -> None:
    request = RequestFactory().get("/", headers=BROWSER)
    assert sentence in error_response(request, error).content.decode()
    # Programs get the error as it is.
    assert problem_body(error)["detail"] == error.message
