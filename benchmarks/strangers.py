"""What each endpoint costs when a stranger does his worst. ``python -m benchmarks.strangers`` prints the table.

Every route of the URL configuration is asked with every method, without credentials and with invented ones: with long
addresses and headers, and with bodies of many shapes, as large as the endpoint takes and 1 MB. The requests go through
the WSGI application in this process. DynamoDB is the emulator, in a process of its own.

CPU is that of this process, the least of three tries of the worst request. Memory is the peak of what Python allocates
(tracemalloc), without the request itself. The answer is its body and its headers. Everything is measured when the
process has answered the same request once before.
"""

import io
import itertools
import json
import logging
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MEGABYTE = 1024 * 1024

# Milliseconds, megabytes and bytes.
CPU_LIMIT, MEMORY_LIMIT, ANSWER_LIMIT = 50.0, 20.0, 10_000

# The statuses of methods that a route does not have.
AT_ONCE = frozenset({405, 413, 414, 431})

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
# A value in the place of each parameter of a path.
_PARAMETERS = {"provider": "github", "name": "nothing", "attempt": "1", "sequence": "0", "object_id": "x", "url": "x"}
_ID = "01kb2m7v3c0000000000000000"


@dataclass(frozen=True)
class Endpoint:
    """A method of a route. `members` are those of the JSON object that it takes, and `limit` is that of its body."""

    method: str
    route: str
    limit: int
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.method} {self.route}"


@dataclass(frozen=True)
class Request:
    """What is sent to an endpoint, and how the table names it."""

    about: str
    query: str = ""
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back. `size` is in bytes, with the headers."""

    status: int
    location: str
    size: int


@dataclass
class Worst:
    """The highest costs of an endpoint, each with the request that caused it."""

    statuses: set[int] = field(default_factory=set)
    cpu: tuple[float, str] = (0.0, "")
    memory: tuple[float, str] = (0.0, "")
    answer: tuple[int, str] = (0, "")

    def join(self, other: "Worst") -> None:
        self.statuses |= other.statuses
        self.cpu, self.memory, self.answer = (
            max(self.cpu, other.cpu),
            max(self.memory, other.memory),
            max(self.answer, other.answer),
        )


def endpoints() -> Iterator[Endpoint]:
    """Every route and method that there is. Django must be set up."""
    from django.conf import settings
    from drf_spectacular.generators import SchemaGenerator

    from controlplane.http.body_limits import view_body_limit

    document: Any = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    for route, view in _routes():
        for method in METHODS:
            operation = document["paths"].get(route, {}).get(method.lower(), {})
            content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            members = tuple(document["components"]["schemas"].get(name, {}).get("properties", ()))
            yield Endpoint(method, route, view_body_limit(view), members)
    static = Path(str(settings.BASE_DIR)) / "static"
    largest = max((path for path in static.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    yield Endpoint("GET", f"/{settings.STATIC_URL.strip('/')}/{largest.relative_to(static)}", 0)
    yield Endpoint("GET", "/no/such/page", 0)


def _routes(patterns: Any = None, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    import re

    from django.urls import URLPattern, URLResolver, get_resolver

    for entry in patterns or get_resolver().url_patterns:
        part = str(entry.pattern).removeprefix("^").removesuffix("$").removesuffix("\\Z")
        part = re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>", lambda found: f"{{{found[1] or found[2]}}}", part)
        if isinstance(entry, URLResolver):
            yield from _routes(entry.url_patterns, prefix + part)
        elif isinstance(entry, URLPattern):
            yield prefix + part.replace("\\", ""), entry.callback


# Shapes of a JSON value of about so many bytes.
SHAPES: dict[str, Callable[[int], str]] = {
    "a long text": lambda size: json.dumps("x" * (size - 2)),
    "a text of escapes": lambda size: '"' + "\\ud83d\\ude00" * ((size - 2) // 12) + '"',
    "a list of numbers": lambda size: "[" + ",".join("1" * ((size - 2) // 2)) + "]",
    "a list of texts": lambda size: "[" + ",".join(['"a"'] * ((size - 2) // 4)) + "]",
    "a list of objects": lambda size: "[" + ",".join(["{}"] * ((size - 2) // 3)) + "]",
    "an object of many members": lambda size: "{" + ",".join(f'"{n:05}":1' for n in range((size - 2) // 10)) + "}",
    "lists in lists": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "objects in objects": lambda size: '{"a":' * (size // 6) + "1" + "}" * (size // 6),
    "a number of many digits": lambda size: "9" * size,
    "a number with many places": lambda size: "0." + "9" * (size - 2),
}

# Values that pass the first look, so that the other members are looked at.
_PLAUSIBLE: dict[str, Any] = {
    "token": "hce_" + "A" * 43,
    "name": "build",
    "region": "eu",
    "session_id": "x" * 43,
    "provider": "github",
    "user_id": "1",
    "oauth_tokens": {"access_token": "x" * 40},
    "attempt": 1,
}


@cache
def _value(shape: str, size: int) -> str:
    return SHAPES[shape](size)


def bodies(endpoint: Endpoint, size: int) -> Iterator[Request]:
    """Bodies of about so many bytes, in JSON and as forms."""
    for shape in SHAPES:
        yield Request(shape, body=_value(shape, size).encode())
        plausible = {name: value for name, value in _PLAUSIBLE.items() if name in endpoint.members}
        for member in endpoint.members:
            others = json.dumps({name: value for name, value in plausible.items() if name != member})[1:-1]
            head = "{" + others + (", " if others else "") + f'"{member}": '
            yield Request(
                f"{member}: {shape}", body=(head + _value(shape, max(10, size - len(head) - 1)) + "}").encode()
            )
    yield from _forms(size)


def _forms(size: int) -> Iterator[Request]:
    signing_in = b"csrfmiddlewaretoken=" + b"a" * 32 + b"&email=a%40example.com&password="
    yield Request("a form of many fields", body=b"&".join([b"a=b"] * (size // 4)), content_type=FORM)
    yield Request("a form of 900 fields", body=b"&".join([b"a=%41"] * 900)[:size], content_type=FORM)
    yield Request("a form of escapes", body=b"next=" + b"%C3" * ((size - 5) // 3), content_type=FORM)
    yield Request("a long password", body=signing_in + b"x" * (size - len(signing_in)), content_type=FORM)
    yield Request("a wrong password", body=signing_in + b"wrong", content_type=FORM)
    yield Request("a long next", body=signing_in + b"&next=/" + b"x" * (size - 100), content_type=FORM)
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    upload = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    multipart = "multipart/form-data; boundary=b"
    yield Request("many parts", body=part * (size // len(part)), content_type=multipart)
    yield Request("a file", body=upload + b"x" * (size - len(upload)), content_type=multipart)
    yield Request("a part that does not begin", body=b"-" * size, content_type=multipart)


@cache
def oversize() -> tuple[Request, ...]:
    """Bodies of 1 MB."""
    return (
        Request("1 MB of numbers", body=SHAPES["a list of numbers"](MEGABYTE).encode()),
        Request("1 MB of lists in lists", body=SHAPES["lists in lists"](MEGABYTE).encode()),
        *(
            replace(request, about=f"1 MB: {request.about}")
            for request in _forms(MEGABYTE)
            if len(request.body) > MEGABYTE // 2
        ),
    )


def addresses() -> Iterator[Request]:
    """Long queries."""
    for about, query in (
        ("many parameters", "a=1&" * 4000),
        ("900 parameters", "a=%41&" * 900),
        ("a long next", "next=/" + "x" * 16_000),
        ("a next of escapes", "next=/" + "%C3" * 5000),
        ("a long session", "session_id=" + "x" * 16_000),
        ("a long state", "code=" + "x" * 8000 + "&state=" + "y" * 8000),
        ("an unknown parameter", "x" * 16_000 + "=1"),
        ("a long error", "error=" + "x" * 8000 + "&error_description=" + "y" * 8000),
    ):
        yield Request(about, query=query)


def headers() -> Iterator[Request]:
    """Long headers."""
    for about, name, value in (
        ("many cookies", "COOKIE", "a=b;" * 8000),
        ("a long session cookie", "COOKIE", "sessionid=" + "x" * 30_000),
        ("a long cookie of messages", "COOKIE", "messages=" + "x" * 30_000),
        ("many media types", "ACCEPT", "a/b," * 8000),
        ("media types with parameters", "ACCEPT", "a/b;c=d;q=0.1," * 2200),
        ("many encodings", "ACCEPT_ENCODING", "gzip;q=0," * 3500),
        ("a long bearer", "AUTHORIZATION", "Bearer " + "x" * 30_000),
        ("a long basic", "AUTHORIZATION", "Basic " + "x" * 30_000),
        ("many entity tags", "IF_NONE_MATCH", '"a",' * 8000),
        ("a long user agent", "USER_AGENT", "Mozilla/5.0 (" + "X11;" * 7000),
        ("many proxies", "X_FORWARDED_FOR", "10.0.0.1," * 3400),
        ("a long referer", "REFERER", "http://localhost/" + "x" * 30_000),
    ):
        yield Request(about, headers={name: value})
    signed = {"SIGNATURE_INPUT": "sig1=(" + '"a" ' * 7000 + ")", "SIGNATURE": f"sig1=:{'A' * 43}=:"}
    yield Request("a long signature", headers=signed)
    yield Request("a page of htmx", headers={"HX_REQUEST": "true", "HX_CURRENT_URL": "http://[" + "x" * 20_000})


def invented(request: Request) -> Request:
    """The same with credentials that look right."""
    credentials = {
        "COOKIE": f"sessionid={'s' * 43}; csrftoken={'a' * 32}",
        "X_CSRFTOKEN": "a" * 32,
        "AUTHORIZATION": "Bearer hcp_" + "A" * 43,
        "SIGNATURE_INPUT": 'sig1=("@method" "@path" "content-digest");created={now};'
        f'keyid="{_ID}.00000000";nonce="{"n" * 16}"',
        "SIGNATURE": f"sig1=:{'A' * 43}=:",
        "CONTENT_DIGEST": f"sha-256=:{'A' * 43}=:",
    }
    return Request(request.about, request.query, request.body, request.content_type, {**credentials, **request.headers})


def requests(endpoint: Endpoint) -> Iterator[Request]:
    """What a stranger may send to an endpoint that looks at it."""
    yield Request("nothing")
    yield Request("a browser", headers={"ACCEPT": "text/html"})
    yield invented(Request("a browser", headers={"ACCEPT": "text/html"}))
    for request in itertools.chain(addresses(), headers()):
        yield request
        yield invented(request)
    if endpoint.method in ("POST", "PUT", "PATCH"):
        for request in itertools.chain(bodies(endpoint, endpoint.limit), oversize()):
            yield request
            yield invented(request)


def glance(endpoint: Endpoint) -> Iterator[Request]:
    """What a stranger may send to an endpoint that answers at once: a few requests of each kind."""
    for request in (*itertools.islice(headers(), 4), *itertools.islice(addresses(), 4), *oversize()):
        yield invented(request)
    yield invented(Request("a text", body=b"x" * endpoint.limit))


class Stranger:
    """Sends requests to the WSGI application, each from another address, so that no rate limit spares us its work."""

    def __init__(self) -> None:
        from controlplane.wsgi import application

        self._application: Any = application
        self._count = itertools.count()

    def ask(self, endpoint: Endpoint, request: Request) -> Answer:
        environ = self._environ(endpoint, request)
        started: list[tuple[str, list[tuple[str, str]]]] = []
        chunks: Any = self._application(environ, lambda status, head: started.append((status, head)))
        size = sum(len(chunk) for chunk in chunks)
        chunks.close()
        status, head = started[0]
        size += sum(len(name) + len(value) + 4 for name, value in head)
        return Answer(int(status.split()[0]), dict(head).get("Location", ""), size)

    def _environ(self, endpoint: Endpoint, request: Request) -> dict[str, Any]:
        import re

        number = next(self._count)
        path = re.sub(r"{(\w+)}", lambda found: _PARAMETERS.get(found[1], _ID), endpoint.route)
        # Each attempt fails for another account.
        body = request.body.replace(b"a%40", f"a{number}%40".encode())
        environ: dict[str, Any] = {
            "REQUEST_METHOD": endpoint.method,
            "PATH_INFO": path,
            "QUERY_STRING": request.query,
            "REMOTE_ADDR": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "HTTP_HOST": "localhost",
            "wsgi.input": io.BytesIO(body),
        }
        if body:
            environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": request.content_type}
        for name, value in request.headers.items():
            environ[f"HTTP_{name}"] = value.replace("{now}", str(int(time.time())))
        setup_testing_defaults(environ)
        return environ

    def cost(self, endpoint: Endpoint, request: Request, worst: Worst) -> None:
        """Add the CPU and the answer of the request to the endpoint's worst."""
        taken = []
        for _ in range(3):
            before = time.process_time()
            answer = self.ask(endpoint, request)
            taken.append((time.process_time() - before) * 1000)
            worst.statuses.add(answer.status)
            worst.answer = max(worst.answer, (answer.size, request.about))
            if taken[-1] <= worst.cpu[0]:
                return
        worst.cpu = max(worst.cpu, (min(taken), request.about))

    def memory(self, endpoint: Endpoint, request: Request, worst: Worst) -> None:
        """Add the memory of the request to the endpoint's worst. tracemalloc must run."""
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        self.ask(endpoint, request)
        _, peak = tracemalloc.get_traced_memory()
        worst.memory = max(worst.memory, ((peak - before) / MEGABYTE, request.about))


def measure() -> dict[str, Worst]:
    """The worst of each endpoint by its name, for methods that the route has."""
    stranger = Stranger()
    found: dict[str, Worst] = {}
    open_ones = open_endpoints()
    there = list(endpoints())
    for endpoint in there:
        stranger.ask(endpoint, Request("nothing"))
        worst = found[endpoint.name] = Worst()
        for request in (requests if endpoint.name in open_ones else glance)(endpoint):
            stranger.cost(endpoint, request, worst)
    tracemalloc.start()
    for endpoint in there:
        if found[endpoint.name].statuses <= AT_ONCE:
            continue
        for request in (requests if endpoint.name in open_ones else glance)(endpoint):
            stranger.memory(endpoint, request, found[endpoint.name])
    tracemalloc.stop()
    return found


def open_endpoints() -> set[str]:
    """The endpoints that need no credentials."""
    from tests.contract.test_access import table

    return {route for route, columns in table().items() if columns["outsider"] == "yes"}


def report(found: dict[str, Worst]) -> Iterator[str]:
    """The table as Markdown: a line for each open endpoint, and one for all others."""
    open_ones = open_endpoints()
    others: dict[str, Worst] = {}
    yield "| endpoint | CPU, ms | memory, MB | answer, bytes |"
    yield "|---|---|---|---|"
    for name, worst in found.items():
        if name in open_ones or name.startswith(("GET /static/", "GET /no/")):
            yield _line(name, worst)
            continue
        method, route = name.split(" ")
        kind = "methods that a route does not have" if worst.statuses <= AT_ONCE else ""
        kind = kind or ("OPTIONS of each route" if method == "OPTIONS" else "")
        kind = kind or ("the admin's pages" if route.startswith("/admin") else "all that needs credentials")
        others.setdefault(kind, Worst()).join(worst)
    for kind, worst in others.items():
        yield _line(kind, worst)


def _line(name: str, worst: Worst) -> str:
    figures = (
        _figure(worst.cpu, CPU_LIMIT, ".1f"),
        _figure(worst.memory, MEMORY_LIMIT, ".1f"),
        _figure(worst.answer, ANSWER_LIMIT, ",d"),
    )
    return f"| {name} | {' | '.join(figures)} |"


def _figure(figure: tuple[float, str], limit: float, form: str) -> str:
    value, about = figure
    text = f"{value:{form}}"
    return f"**{text}** ({about})" if value > limit else text


def main() -> None:
    """Measure and print."""
    import tempfile

    from benchmarks.lambda_comparison import environment_set
    from tests.emulator import running_emulator

    with tempfile.TemporaryDirectory() as folder, running_emulator() as url:
        environment_set(Path(folder))
        os.environ["AWS_ENDPOINT_URL"] = url
        # A provider that does not answer: what it costs is not ours.
        nothing = "http://127.0.0.1:1"
        os.environ |= {"GITHUB_CLIENT_ID": "id", "GITHUB_CLIENT_SECRET": "secret", "PASSWORD_SIGN_IN": "true"}
        os.environ |= {"GITHUB_URL": nothing, "GITHUB_API_URL": nothing}
        import django

        django.setup()
        logging.disable()
        from controlplane.nosql.tables import create_tables

        list(create_tables())
        found = measure()
        print("\n".join(report(found)))
        failures = sorted(name for name, worst in found.items() if worst.statuses & {500})
        print(f"\nAnswers of 500: {', '.join(failures) or 'none'}")


if __name__ == "__main__":
    main()
