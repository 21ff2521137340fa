"""``make benchmark-lambda``: compares our package with the stack of the earlier notes, one process of each in turn.

Cold is a fresh process that imports the handler and answers its first event; warm is the CPU time of one more. Both
packages get unchecked bytecode, and use the same emulator, whose work is not counted. Ours logs, counts metrics and
checks whether it is traced, as on Lambda; the notes' stack does nothing of that. It is measured in its frameworks'
documented form and in the fastest form for Lambda (see `notes_stack`); each has its target.
"""

import base64
import compileall
import hashlib
import hmac
import json
import os
import py_compile
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = 8
WARM = 100
# What ours may take of the notes' stack: a cold start and a warm request in its documented form, a warm request in its
# fastest form.
COLD_TARGET = WARM_TARGET = 0.60
INLINE_TARGET = 0.80
KINDS = ("health", "validate a session", "heartbeat")
# Module and settings of each.
STACKS = {
    "notes": ("notes_stack", {}),
    "inline": ("notes_stack", {"NOTES_INLINE": "1"}),
    "ours": ("controlplane.lambda_handler", {"AWS_LAMBDA_FUNCTION_NAME": "hybrid-ci-cd-benchmark"}),
}


def main() -> None:
    """Build both, measure both, print the table. Exits with 1 when the target is missed."""
    with tempfile.TemporaryDirectory(prefix="hybrid-ci-benchmark-") as name:
        folder = Path(name)
        notes = notes_package(folder / "notes")
        packages = {"notes": notes, "inline": notes, "ours": our_package(folder)}
        environment_set(folder)
        from tests.emulator import running_emulator

        with running_emulator() as url:
            os.environ["AWS_ENDPOINT_URL"] = url
            notes_events = notes_world()
            worlds = {"notes": notes_events, "inline": notes_events, "ours": our_world()}
            measured = measure(packages, worlds)
    missed = [line for line in table(measured) if line.endswith("missed")]
    sys.exit(1 if missed else 0)


def environment_set(folder: Path) -> None:
    """Set the settings of the measured processes and of this one, which creates the records."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="controlplane.settings",
        STAGE="local",
        SECRET_KEY="only-for-benchmarks-" + "x" * 50,
        KEY_FILE=str(folder / "sealing.key"),
        LOG_DIR=str(folder / "logs"),
        AWS_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_EC2_METADATA_DISABLED="true",
    )


def notes_package(folder: Path) -> Path:
    """The stack of the notes as pip installs it, with bytecode."""
    requirements = ROOT / "benchmarks" / "requirements.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    # pip's warnings about conflicts concern this environment, not the folder.
    subprocess.run([*pip, "--requirement", requirements, "--target", folder], check=True, stderr=subprocess.DEVNULL)
    shutil.copy(ROOT / "benchmarks" / "notes_stack.py", folder)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, invalidation_mode=mode)
    return folder


def our_package(folder: Path) -> Path:
    """The package of `zappa package`, unpacked."""
    archive = folder / "ours.zip"
    subprocess.run(
        [sys.executable, "-m", "zappa.cli", "package", "staging", "--output", str(archive)],
        cwd=ROOT,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / "ours")
    return folder / "ours"


def notes_world() -> Iterator[dict[str, list[Any]]]:
    """Creates the notes' tables with a session and an agent. Yields the events for one process after the other."""
    import boto3

    client = boto3.client("dynamodb", region_name="eu-central-1")
    for table, name in [
        ("sessions", "session_id"),
        ("agents", "agent_id"),
        ("heartbeats", "agent_id"),
        ("queue", "part"),
    ]:
        client.create_table(
            TableName=f"notes-{table}",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": name, "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    token, agent_id, key = "t" * 43, "a" * 26, b"k" * 32
    hashed = hashlib.sha256(token.encode()).hexdigest()
    client.put_item(
        TableName="notes-sessions",
        Item={
            "session_id": {"S": hashed},
            "user_id": {"S": "ada"},
            "provider": {"S": "google"},
            "created_at": {"S": "2026-01-01T00:00:00Z"},
            "expires_at": {"N": "9999999999"},
            "oauth_tokens": {"M": {name: {"S": "x" * 40} for name in ("access_token", "token_type", "scope")}},
            "user_info": {"M": {name: {"S": "Ada Lovelace"} for name in ("email", "name", "picture")}},
        },
    )
    client.put_item(TableName="notes-agents", Item={"agent_id": {"S": agent_id}, "key": {"B": key}})
    client.put_item(TableName="notes-heartbeats", Item={"agent_id": {"S": agent_id}, "status": {"S": "healthy"}})
    body = json.dumps(report(agent_id)).encode()
    signature = base64.b64encode(hmac.digest(key, body, "sha256")).decode()
    path = f"/agents/{agent_id}/heartbeat"
    heartbeat = event("POST", path, {"x-signature": signature, "content-type": "application/json"}, body)
    while True:
        yield {
            "health": [event("GET", "/health")] * (WARM + 6),
            "validate a session": [validate_event(token)] * (WARM + 6),
            "heartbeat": [heartbeat] * (WARM + 6),
        }


def our_world() -> Iterator[dict[str, list[Any]]]:
    """Creates our tables with a session. Yields the events for each process, each with an agent of its own."""
    import django

    django.setup()
    from apps.accounts.services import user_create
    from apps.accounts.services.sessions import session_start
    from controlplane.lib import clock
    from controlplane.lib.actor import SYSTEM
    from controlplane.nosql.tables import create_tables
    from tests.signing import enrolled

    list(create_tables())
    user = user_create(email="ada@example.com", password="a long password", name="Ada", role="admin", actor=SYSTEM)
    token = session_start(user=user, provider="google", device=None, address="127.0.0.1").token
    while True:
        agent = enrolled("")
        # The heartbeats of an agent must differ in their second, and must not be older than five minutes.
        seconds = range(clock.epoch() - WARM - 60, clock.epoch() - 54)
        heartbeats = [agent.json_request("/heartbeat", report(agent.agent_id), created=second) for second in seconds]
        yield {
            "health": [event("GET", "/health")] * (WARM + 6),
            "validate a session": [validate_event(token)] * (WARM + 6),
            "heartbeat": [
                event(heartbeat.method, heartbeat.path, heartbeat.headers, heartbeat.body) for heartbeat in heartbeats
            ],
        }


def report(agent_id: str) -> dict[str, Any]:
    """The report of an idle agent."""
    return {
        "agent_id": agent_id,
        "cpu_percent": 12.5,
        "memory_percent": 40.0,
        "disk_percent": 55.1,
        "jobs_queued": 0,
        "jobs_completed": 7,
        "uptime_seconds": 3600,
        "free_slots": 2,
        "running": [],
        "config_version": 1,
    }


def validate_event(token: str) -> dict[str, Any]:
    body = json.dumps({"session_id": token}).encode()
    return event("POST", "/auth/validate", {"content-type": "application/json"}, body)


def event(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> dict[str, Any]:
    """The event of an HTTP API for a request, which always has an id."""
    from tests.zappa.events import http_api_event

    lower = {name.lower(): value for name, value in (headers or {}).items()}
    made = http_api_event(method, path, headers={"host": "localhost", **lower}, body=body)
    made["requestContext"]["requestId"] = "JKJaXmPLvHcESHA="
    return made


def measure(
    packages: dict[str, Path], worlds: dict[str, Iterator[Any]]
) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Measure: each process answers one kind of event first, and then all kinds."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in range(RUNS * len(KINDS)):
        first = KINDS[run % len(KINDS)]
        for stack, (module, environment) in STACKS.items():
            events = next(worlds[stack])
            ordered = {first: events[first]} | events
            task = {"package": str(packages[stack]), "module": module, "events": ordered}
            done = subprocess.run(
                [sys._base_executable, "-I", "-S", str(ROOT / "benchmarks" / "measure.py")],  # type: ignore[attr-defined]
                input=json.dumps(task),
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{stack}: {done.stderr}")
            # The lines before it are our metrics for CloudWatch.
            result = json.loads(done.stdout.splitlines()[-1])
            found["cold start, ms of CPU", first][stack].append(result["cold_cpu_ms"])
            found["cold start, ms", first][stack].append(result["cold_wall_ms"])
            for kind, microseconds in result["warm_cpu_us"].items():
                found["warm request, µs of CPU", kind][stack].append(microseconds)
    return found


def table(measured: dict[tuple[str, str], dict[str, list[float]]]) -> Iterator[str]:
    """The medians, and whether the ratios meet the targets."""
    print(f"{'':<48}" + "".join(f"{head:>8}" for head in (*STACKS, "ratio")) + f"{'to inline':>11}")
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (what, kind), by_stack in sorted(measured.items()):
        medians = {stack: statistics.median(values) for stack, values in by_stack.items()}
        yield line(f"{what}: {kind}", medians)
        for stack, value in medians.items():
            totals[what][stack] += value / len(KINDS)
    for what, medians in sorted(totals.items()):
        targets = {}
        if what.startswith("cold") and "CPU" in what:
            targets = {"notes": COLD_TARGET}
        elif "CPU" in what:
            targets = {"notes": WARM_TARGET, "inline": INLINE_TARGET}
        yield line(f"{what}, mean of the three", medians, targets)


def line(what: str, medians: Mapping[str, float], targets: Mapping[str, float] | None = None) -> str:
    """A line of the table. With targets (the most that ours may take of a stack's time), it ends with the verdict."""
    ratios = {stack: medians["ours"] / medians[stack] for stack in ("notes", "inline")}
    verdict = ""
    if targets:
        verdict = " kept" if all(ratios[stack] <= most for stack, most in targets.items()) else " missed"
    figures = "".join(f"{medians[stack]:>8.0f}" for stack in STACKS)
    text = f"{what:<48}{figures}{ratios['notes']:>8.2f}{ratios['inline']:>11.2f}{verdict}"
    print(text)
    return text


if __name__ == "__main__":
    main()
