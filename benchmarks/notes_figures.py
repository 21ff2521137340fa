"""``make benchmark-notes``: the figures that the notes claim, measured in one process through the Lambda handler.

Elapsed time of single requests, one after the other, as an instance of the function serves them: creating a session by
`POST /auth/session`, validating one, and health. No network is between the caller and the handler. DynamoDB is the
emulator, and Google and GitHub are a server on this machine; both are processes of their own. What a request waits for
either of them is measured apart: the rest is its own share. The provider's server answers at once, which Google and
GitHub do not, and without TLS.

An instance has one request at a time, so it serves as many a second as fit into it one after the other, and so many
instances as a request takes milliseconds serve 1,000 a second. Lambda gives 1769 MB a whole processor, so that at the
1024 MB of production the own share takes 1.73 times as long as it takes CPU here.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.infrastructure.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
REQUESTS, WARMING = 400, 20
# Milliseconds that a request may take by the notes, and the requests that all instances together serve in a second.
CREATED, VALIDATED, HEALTH = 100.0, 50.0, 10.0
A_SECOND = 1_000
# Of Lambda: the memory that comes with a whole processor.
WHOLE_PROCESSOR_MB = 1769
_PROVIDER = "provider"
# The user of each provider, by the provider's id. An address has one account, which signs in by one of them.
_USERS = {"google": ("1001", "ada@example.com"), "github": ("1002", "grace@example.com")}


@dataclass
class Waits:
    """What a request has waited for: calls, and their seconds."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Kind:
    """A kind of request: the event of one, the goal in milliseconds, and what was measured of each, in seconds."""

    name: str
    goal: float
    event: dict[str, Any]
    elapsed: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    dynamodb: list[Waits] = field(default_factory=list)
    provider: list[Waits] = field(default_factory=list)


def main() -> None:
    """Measure and print. With the argument ``provider``, serve as the provider until standard input ends."""
    if sys.argv[1:] == [_PROVIDER]:
        _provider_serve()
        return
    from benchmarks.lambda_comparison import environment_set
    from tests.emulator import running_emulator

    with tempfile.TemporaryDirectory() as folder, running_emulator() as url, _provider() as provider:
        environment_set(Path(folder))
        _settings_set(provider["url"])
        os.environ.update(AWS_ENDPOINT_URL=url, AWS_LAMBDA_FUNCTION_NAME="hybrid-ci-cd-benchmark")
        load = os.getloadavg()[0]
        kinds = _kinds(provider["tokens"])
        _measure(kinds)
    print(f"{os.cpu_count()} processors, load of the machine before: {load:.1f}, after: {os.getloadavg()[0]:.1f}")
    print("\n".join(_table(kinds)))


def _settings_set(provider: str) -> None:
    """The settings with which users sign in by the provider as by Google and as by GitHub."""
    from tests.accounts.provider import CLIENT_ID, CLIENT_SECRET

    addresses = ("GOOGLE_ACCOUNTS_URL", "GOOGLE_TOKEN_URL", "GOOGLE_USERINFO_URL", "GITHUB_URL", "GITHUB_API_URL")
    os.environ.update(dict.fromkeys(addresses, provider))
    for name in ("GOOGLE", "GITHUB"):
        os.environ.update({f"{name}_CLIENT_ID": CLIENT_ID, f"{name}_CLIENT_SECRET": CLIENT_SECRET})
    os.environ["ALLOWED_ADDRESSES"] = ",".join(f"{email}=viewer" for _, email in _USERS.values())


def _provider_serve() -> None:
    from tests.accounts.provider import Person, running_provider

    with running_provider() as provider:
        tokens = {name: provider.token(Person(subject, email)) for name, (subject, email) in _USERS.items()}
        print(json.dumps({"url": provider.url, "tokens": tokens}), flush=True)
        sys.stdin.read()


@contextmanager
def _provider() -> Iterator[dict[str, Any]]:
    """The provider in a process of its own: its ``url``, and the ``tokens`` of the users."""
    command = [sys.executable, "-m", "benchmarks.notes_figures", _PROVIDER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def _kinds(tokens: dict[str, str]) -> list[Kind]:
    """The kinds of requests, on tables that have a session."""
    import django

    django.setup()
    from benchmarks.lambda_comparison import event, validate_event
    from controlplane.nosql.tables import create_tables

    def creation(provider: str) -> dict[str, Any]:
        body = {
            "user_id": _USERS[provider][0],
            "provider": provider,
            "oauth_tokens": {"access_token": tokens[provider]},
            "user_info": {},
        }
        return event("POST", "/auth/session", {"content-type": "application/json"}, json.dumps(body).encode())

    list(create_tables())
    session = _asked(creation("google"))["session_id"]
    return [
        Kind("create a session, Google", CREATED, creation("google")),
        Kind("create a session, GitHub", CREATED, creation("github")),
        Kind("validate a session", VALIDATED, validate_event(session)),
        Kind("health", HEALTH, event("GET", "/health")),
    ]


def _asked(event: dict[str, Any]) -> Any:
    from controlplane.lambda_handler import handler

    # The lines for CloudWatch are written, and are not the benchmark's output.
    with redirect_stdout(io.StringIO()):
        answer = handler(event, None)
    if answer["statusCode"] != 200:
        raise SystemExit(f"the answer is {answer}")
    return json.loads(answer["body"])


def _measure(kinds: list[Kind]) -> None:
    """Ask for one of each kind in turn, so that what else the machine does meets all of them."""
    from requests.adapters import HTTPAdapter

    from controlplane.nosql.connection import shared_connection

    transport = shared_connection().client._endpoint.http_session
    with _timed(transport, "send") as dynamodb, _timed(HTTPAdapter, "send") as provider:
        for number in range(WARMING + REQUESTS):
            for kind in kinds:
                for waits in (dynamodb, provider):
                    waits.calls, waits.seconds = 0, 0.0
                began, worked = time.perf_counter(), time.process_time()
                _asked(kind.event)
                elapsed, cpu = time.perf_counter() - began, time.process_time() - worked
                if number >= WARMING:
                    kind.elapsed.append(elapsed)
                    kind.cpu.append(cpu)
                    kind.dynamodb.append(Waits(dynamodb.calls, dynamodb.seconds))
                    kind.provider.append(Waits(provider.calls, provider.seconds))


@contextmanager
def _timed(owner: Any, name: str) -> Iterator[Waits]:
    """Count and time the calls of a method: of an object, or of all objects of a class."""
    found, original = Waits(), getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            found.calls += 1
            found.seconds += time.perf_counter() - began

    setattr(owner, name, timed)
    try:
        yield found
    finally:
        setattr(owner, name, original)


def _table(kinds: list[Kind]) -> Iterator[str]:
    """The lines of the tables in docs/promises.md."""
    yield _row("ms", "goal", "median", "p95", "own share", "DynamoDB", "provider", "CPU")
    yield _row("---", *["---:"] * 7)
    for kind in kinds:
        own = [
            elapsed - dynamodb.seconds - provider.seconds
            for elapsed, dynamodb, provider in zip(kind.elapsed, kind.dynamodb, kind.provider, strict=True)
        ]
        yield _row(
            kind.name,
            f"< {kind.goal:.0f}",
            _milliseconds(statistics.median(kind.elapsed)),
            _milliseconds(statistics.quantiles(kind.elapsed, n=20)[-1]),
            _milliseconds(statistics.median(own)),
            _waited(kind.dynamodb),
            _waited(kind.provider),
            _milliseconds(statistics.median(kind.cpu)),
        )
    stage = STAGES["production"]
    slower = WHOLE_PROCESSOR_MB / stage.memory_mb
    yield ""
    yield _row("one instance", "requests/s", "instances for 1,000/s", f"the same at {stage.memory_mb} MB", "reserved")
    yield _row("---", *["---:"] * 4)
    for kind in kinds:
        seconds = statistics.mean(kind.elapsed)
        there = seconds + statistics.mean(kind.cpu) * (slower - 1)
        figures = (f"{1 / seconds:,.0f}", f"{seconds * A_SECOND:.1f}", f"{there * A_SECOND:.1f}")
        yield _row(kind.name, *figures, str(stage.reserved_concurrency))


def _waited(waits: list[Waits]) -> str:
    calls = statistics.median(one.calls for one in waits)
    median = _milliseconds(statistics.median(one.seconds for one in waits))
    return f"{median} ({calls:.0f} call{'s' * (calls != 1)})" if calls else "–"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
