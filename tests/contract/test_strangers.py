"""Strangers are cheap: what they send is refused early, and with few words. `benchmarks.strangers` has the costs."""

import itertools
import json
import logging
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.services import enrolment_token_create
from benchmarks.strangers import (
    ANSWER_LIMIT,
    MEGABYTE,
    SHAPES,
    Endpoint,
    Request,
    Stranger,
    endpoints,
    glance,
    open_endpoints,
    requests,
)
from controlplane.http.body_limits import BODY_LIMIT
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import ADMIN

# The same for everyone, made once in a process.
LARGE = {"GET /docs", "GET /guide", "GET /schema", "GET /schema/pipeline.json", "GET /agent.pyz"}
ENROL = Endpoint("POST", "/agents/enrol", BODY_LIMIT)


@pytest.fixture(scope="module")
def there() -> list[Endpoint]:
    return list(endpoints())


@pytest.fixture
def stranger(tables: None) -> Stranger:
    return Stranger()


def refused(stranger: Stranger, endpoint: Endpoint, sent: Iterator[Request]) -> Iterator[str]:
    """What is wrong with the answers, for each request that is answered by a failure or at length."""
    for request in sent:
        answer = stranger.ask(endpoint, request)
        large = answer.size > ANSWER_LIMIT and endpoint.name not in LARGE and not endpoint.route.startswith("/static")
        if answer.status >= 500 or large:
            yield f"{request.about}: {answer.status}, {answer.size} bytes"


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.nightly)])
def test_every_open_endpoint_answers_the_worst_request_in_ten_kilobytes(
    stranger: Stranger, there: list[Endpoint], step: int
) -> None:
    """Each request with and without invented credentials, or in turn with one endpoint and without for the next."""
    open_ones = open_endpoints()
    wrong: dict[str, list[str]] = defaultdict(list)
    for endpoint in there:
        if endpoint.name in open_ones or endpoint.name.startswith(("GET /static/", "GET /no/")):
            chosen = itertools.islice(requests(endpoint), len(wrong) % step, None, step)
            wrong[endpoint.name] += refused(stranger, endpoint, chosen)
    assert open_ones <= wrong.keys()
    assert {name: found for name, found in wrong.items() if found} == {}


def test_every_other_endpoint_refuses_strangers_in_ten_kilobytes(stranger: Stranger, there: list[Endpoint]) -> None:
    """Each with two of the requests, which are others for the next endpoint."""
    open_ones, turns = open_endpoints(), itertools.cycle(range(8))
    wrong = {
        endpoint.name: found
        for endpoint in there
        if endpoint.name not in open_ones
        and stranger.ask(endpoint, Request("nothing")).status != 405
        and (found := list(refused(stranger, endpoint, itertools.islice(glance(endpoint), next(turns), None, 8))))
    }
    assert wrong == {}


def test_an_enrolment_of_a_megabyte_is_refused_unread(stranger: Stranger) -> None:
    body = json.dumps({"token": "hce_" + "A" * 43, "name": "a", "region": "b", "labels": [1] * 300_000}).encode()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        answer = stranger.ask(ENROL, Request("labels", body=body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The test's own request holds a copy of the body.
    assert (answer.status, answer.size < 1500) == (413, True)
    assert peak - before < 3 * MEGABYTE


@pytest.mark.parametrize("shape", SHAPES)
def test_at_most_twenty_errors_are_listed_in_few_words(server: str, shape: str) -> None:
    _, token = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN)
    names = ("name", "region", "labels", "slots", "hostname", "os", "arch", "version")
    members = ",".join(f'"{name}": {SHAPES[shape](1900)}' for name in names)
    answer = Client(server).post(
        "/agents/enrol",
        data=f'{{"token": "{token}", {members}}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert len(answer.json().get("errors", [])) <= 20
    assert len(answer.content) < ANSWER_LIMIT


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain; charset*=foo''x",
        "text/plain; charset*=utf-8''%00",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\xff",
        "application/x-www-form-urlencoded; charset=rot13",
        "application/x-www-form-urlencoded; charset=punycode",
        "application/json; charset=zlib_codec",
    ],
)
@pytest.mark.parametrize("name", ["POST /signin", "GET /info", "POST /auth/validate", "POST /agents/enrol"])
def test_no_content_type_makes_the_control_plane_fail(stranger: Stranger, name: str, content_type: str) -> None:
    method, route = name.split(" ")
    cookies = {"COOKIE": f"csrftoken={'a' * 32}"}
    request = Request("", query="x=%ff", body=b"csrfmiddlewaretoken=%ff", content_type=content_type, headers=cookies)
    assert stranger.ask(Endpoint(method, route, BODY_LIMIT), request).status < 500


HOSTILE: dict[str, list[str]] = {
    "HOST": ["", "[", "localhost:99999999", "localhost:x", "\xff", "localhost\x00", "[::1", "a" * 5000],
    "ORIGIN": ["http://[", "null", "\xff", "http://localhost:99999999999"],
    "REFERER": ["http://[", "\xff", "http://localhost:x/"],
    "COOKIE": ["sessionid=\xff", "sessionid=" + "\x00" * 43, "messages=[[", "csrftoken=é", '="', "a=\\400", ";;;=;="],
    "AUTHORIZATION": ["Bearer", "Bearer \xff", "Bearer hcp_\xff" + "A" * 42, "Basic !!!", " ", "bearer " + "s" * 43],
    "ACCEPT": ["", ";", "*/*;q=x", "text/html;q=\xff", "/", "application/json; indent=9999", "a/b;="],
    "IF_NONE_MATCH": ["", '"', "W/", "*", "\xff", '"' * 500],
    "IF_MODIFIED_SINCE": ["Mon, 99 Foo 9999 99:99:99 GMT", "\xff", "0", "Thu, 01 Jan 0000 00:00:00 GMT"],
    "RANGE": ["bytes=", "bytes=a-b", "bytes=-", "bytes=9999999999999999999-", "bytes=5-1", "\xff"],
    "HX_CURRENT_URL": ["http://[", "\xff", "http://localhost:x/"],
    "X_FORWARDED_FOR": ["", ",", "[", "\xff", "1.2.3.4:x"],
    "X_FORWARDED_PROTO": ["https", "ftp", "\xff"],
    "IDEMPOTENCY_KEY": ["", "\xff", "\x00" * 20],
    "USER_AGENT": ["", "\xff", "(" * 3000],
    "ACCESS_CONTROL_REQUEST_METHOD": ["\xff"],
    "ACCEPT_ENCODING": ["gzip;q=x", "\xff", "*"],
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_header_makes_the_control_plane_fail_or_log_an_error(
    stranger: Stranger, there: list[Endpoint], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    open_ones = open_endpoints() | {"GET /dashboard/", "GET /jobs", "GET /admin/", "POST /jobs", "GET /no/such/page"}
    failed = []
    for endpoint in there:
        if endpoint.name in open_ones or endpoint.route.startswith("/static") or endpoint.name == "OPTIONS /info":
            for value in HOSTILE[name]:
                headers = {"ACCEPT": "text/html", "HX_REQUEST": "true", name: value}
                answer = stranger.ask(endpoint, Request("", headers=headers))
                failed += [(endpoint.name, value, answer.status)] if answer.status >= 500 else []
    assert failed == []
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "query",
    ["%00", "%ff", "next=%ff", "next=//[", "next=http://[", "next=%00", "format=%00", "lang=%ff", "=", "&&&", "%"],
)
def test_no_query_makes_the_control_plane_fail(stranger: Stranger, there: list[Endpoint], query: str) -> None:
    open_ones = open_endpoints() | {"GET /dashboard/", "GET /admin/", "GET /admin/login/"}
    asked: list[Any] = [endpoint for endpoint in there if endpoint.name in open_ones]
    failed = [
        (endpoint.name, answer.status)
        for endpoint in asked
        if (answer := stranger.ask(endpoint, Request("", query=query))).status >= 500
    ]
    assert failed == []
