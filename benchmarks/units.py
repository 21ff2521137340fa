"""The DynamoDB units of each operation, measured on the emulator. ``make units`` writes units.json.

The emulator reports the units of a table and of its indexes, as DynamoDB does: an added, removed or changed entry of an
index is a write of its size, also in a transaction, and an entry whose key changes is two writes.
"""

import base64
import gzip
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("units.json")

# The log of a job in the cost table: chunks, and bytes of each.
LOG_CHUNKS, CHUNK_BYTES = 20, 3_000

# Operation → "table" or "table/index" → units of reading and of writing.
Units = dict[str, dict[str, list[float]]]


def measure() -> Units:
    """Perform each operation once, on empty tables at AWS_ENDPOINT_URL. Django must be set up."""
    from datetime import timedelta

    from django.conf import settings
    from django.core.cache import cache

    from apps.accounts.services import api_token_create, user_create
    from apps.accounts.services.sessions import session_start
    from apps.audit.services.sealing import audit_seal, audit_seals_copy
    from apps.pipelines.services import pipeline_save
    from controlplane import schedules
    from controlplane.lib import clock
    from controlplane.lib.actor import SYSTEM
    from tests.signing import enrolled, finish_body

    ada = user_create(email="ada@example.com", password="a long password", name="Ada", role="admin", actor=SYSTEM)
    _, token = api_token_create(
        user=ada, name="ci", permissions=None, expires_at=clock.now() + timedelta(days=1), actor=SYSTEM
    )
    session = session_start(user=ada, provider="google", device=None, address="127.0.0.1").token
    pipeline_save(
        actor=_admin(),
        name=settings.DEFAULT_PIPELINE,
        repository="https://git.example.com/a.git",
        default_ref="main",
        definition=_STEPS,
    )
    agent = enrolled("", slots=1)
    bearer = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    cookie = [f"sessionid={session}"]
    found: Units = {}

    def count(name: str, act: Callable[[], Any]) -> Any:
        with counted() as units:
            result = act()
        found[name] = units
        return result

    def signed(request: Any) -> Any:
        return _ask(request.method, request.path, request.headers, request.body)

    def log_chunk(sequence: int) -> Any:
        # Chunks arrive more than a second apart, so the control plane reads the job again for each.
        cache.delete(f"log-gate:{agent.agent_id}:{assignment['job_id']}:1")
        packed = gzip.compress(output(sequence), compresslevel=3)
        return signed(agent.log_request(assignment, sequence, packed, encoding="gzip"))

    # A process that has just started looks once for where the audit trail begins.
    schedules.sweep({}, None)
    signed(agent.heartbeat_request())
    _ask("POST", "/jobs", bearer, b"{}")
    _ask("GET", "/jobs", bearer)
    (assignment,) = signed(agent.heartbeat_request())["jobs"]
    count("start", lambda: signed(agent.json_request(f"/jobs/{assignment['job_id']}/start", {"attempt": 1})))
    running = [{"job_id": assignment["job_id"], "attempt": 1}]
    count("busy heartbeat", lambda: signed(agent.heartbeat_request(running=running, free_slots=0)))
    log_chunk(0)
    count("log chunk", lambda: log_chunk(1))
    for sequence in range(2, LOG_CHUNKS):
        log_chunk(sequence)
    body = finish_body(assignment, log_chunks=LOG_CHUNKS)
    count("finish", lambda: signed(agent.json_request(f"/jobs/{assignment['job_id']}/finish", body)))
    count("store a log", lambda: schedules.sweep({}, None))
    count("sweep", lambda: schedules.sweep({}, None))
    count("idle heartbeat", lambda: signed(agent.heartbeat_request()))
    count("enqueue", lambda: _ask("POST", "/jobs", bearer, b"{}"))
    count("claiming heartbeat", lambda: signed(agent.heartbeat_request()))
    count("look at a job", lambda: _ask("GET", f"/jobs/{assignment['job_id']}", bearer))
    count("overview", lambda: _ask("GET", "/dashboard/", {"accept": "text/html"}, cookies=cookie))
    count("recent runs", lambda: _ask("GET", "/dashboard/recent", {"accept": "text/html"}, cookies=cookie))
    count("latest acts", lambda: _ask("GET", "/dashboard/latest", {"accept": "text/html"}, cookies=cookie))
    with clock.shifted(timedelta(minutes=4)):
        # What has happened so far is sealed before.
        schedules.sweep({}, None)
        _ask("POST", "/jobs", bearer, b"{}")
    with clock.shifted(timedelta(minutes=8)):
        count("seal a minute", lambda: (audit_seal(seconds=5), audit_seals_copy(seconds=5)))
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


_STEPS = "steps:\n  - run: make\n"


def output(sequence: int) -> bytes:
    """A chunk of what tests print. Compressed it has a quarter of its bytes; real logs have a seventh to a third."""
    chance = random.Random(sequence)
    text = ""
    while len(text) < CHUNK_BYTES:
        name, other, digest = chance.choice(_TESTED), chance.choice(_TESTED), chance.randbytes(4).hex()
        text += f"tests/{name}/test_{name}.py::test_{other}_of_{name} PASSED {digest} in {chance.randrange(900)} ms\n"
    return text[:CHUNK_BYTES].encode()


_TESTED = ("agents", "artifacts", "caches", "claims", "heartbeats", "leases", "logs", "queues", "retries", "runs")


def _admin() -> Any:
    from apps.accounts.policies import ROLES
    from controlplane.lib.actor import Actor

    return Actor("user", "01kaadmin00000000000000000", "admin", frozenset(ROLES["admin"]))


def _ask(method: str, path: str, headers: Any = None, body: bytes = b"", cookies: list[str] | None = None) -> Any:
    from controlplane.lambda_handler import handler
    from tests.zappa.events import http_api_event

    lower = {name.lower(): value for name, value in (headers or {}).items()}
    answer = handler(
        http_api_event(method, path, headers={"host": "localhost", **lower}, body=body, cookies=cookies), None
    )
    content = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"]
    if answer["statusCode"] >= 300:
        raise RuntimeError(f"{method} {path} is answered {answer['statusCode']}: {content!r}")
    return json.loads(content) if "json" in answer["headers"].get("content-type", "") else content


@contextmanager
def counted() -> Iterator[dict[str, list[float]]]:
    """The units of the block. Requests are counted where botocore builds them and parses their responses."""
    from controlplane.nosql.connection import shared_connection

    events = shared_connection().client.meta.events
    units: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def before(params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "INDEXES"

    def after(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity") or []
        for entry in [consumed] if isinstance(consumed, dict) else consumed:
            table, kind = _short(entry["TableName"]), int(model.name in _WRITES)
            indexes = entry.get("GlobalSecondaryIndexes", {})
            units[table][kind] += entry["CapacityUnits"] - sum(part["CapacityUnits"] for part in indexes.values())
            for index, part in indexes.items():
                units[f"{table}/{index}"][kind] += part["CapacityUnits"]

    events.register("provide-client-params.dynamodb.*", before, unique_id="units-before")
    events.register("after-call.dynamodb.*", after, unique_id="units-after")
    try:
        yield units
    finally:
        events.unregister("provide-client-params.dynamodb.*", unique_id="units-before")
        events.unregister("after-call.dynamodb.*", unique_id="units-after")
    for name in [name for name, used in units.items() if not any(used)]:
        del units[name]


_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})


def _short(full_name: str) -> str:
    from django.conf import settings

    return full_name.removeprefix("hybrid-ci-cd-").removesuffix(f"-{settings.STAGE}")


def main() -> None:
    """Measure, and write units.json."""
    import tempfile

    from benchmarks.lambda_comparison import environment_set
    from tests.emulator import running_emulator

    with tempfile.TemporaryDirectory() as folder, running_emulator() as url:
        environment_set(Path(folder))
        os.environ["AWS_ENDPOINT_URL"] = url
        import django

        django.setup()
        from controlplane.nosql.tables import create_tables

        list(create_tables())
        FILE.write_text(json.dumps(measure(), indent=1) + "\n")


if __name__ == "__main__":
    main()
