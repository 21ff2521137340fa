"""A small world to do things in, and a comparison of two of them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache

from apps.agents.services import AgentCredentials, agent_enrol, enrolment_token_create, heartbeat_record
from apps.audit.models import AuditRecord
from apps.jobs.models import DayCounter
from apps.jobs.services import (
    AttemptResult,
    Dispatch,
    attempt_finish,
    attempt_start,
    job_create,
    log_append,
    work_dispatch,
)
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.tables import record_tables
from tests.conftest import ADMIN
from tests.emulator import items_read, items_replace
from tests.polling import polled
from tests.properties.consistency import COUNTERS, Items, emulator_url, tables_empty

REPOSITORY = "https://git.example.com/app.git"
DEFINITION = "retries: 1\nsteps:\n  - name: test\n    run: make test\n"
SUCCESS = AttemptResult(exit_code=0, error_message=None, steps=[], log_chunks=1, commit="c0ffee")


class World:
    """An agent with the label ``linux``, a pipeline on the server (`self`) and one in its repository (`repo`)."""

    def __init__(self) -> None:
        tables_empty()
        logs_empty()
        cache.clear()
        self.stack = ExitStack()
        for name, definition in {"self": DEFINITION, "repo": None}.items():
            pipeline_save(actor=ADMIN, name=name, repository=REPOSITORY, default_ref="main", definition=definition)
        expires_at = clock.now() + timedelta(days=1)
        _, self.token = enrolment_token_create(uses=5, expires_at=expires_at, actor=ADMIN)
        self.credentials: AgentCredentials = agent_enrol(
            token=self.token, name="build", region="eu", labels=["linux"], slots=2
        )
        self.agent = Actor("agent", self.credentials.agent_id, "build")
        self.heartbeats = 0

    def wait(self, seconds: int) -> None:
        """Let time pass, until `close`."""
        self.stack.enter_context(clock.shifted(timedelta(seconds=seconds)))
        cache.clear()

    def wait_while_others_poll(self, seconds: int) -> None:
        """Let time pass in which this agent is silent and others are not, until `close`."""
        self.stack.enter_context(polled(seconds))
        cache.clear()

    def close(self) -> None:
        self.stack.close()

    def job(self, **members: Any) -> str:
        """A queued job."""
        members = {"pipeline": "self", **members}
        return str(job_create(actor=ADMIN, **members).job_id)

    def heartbeat(self, *, running: dict[str, int] | None = None, free: int = 1) -> Dispatch:
        """A heartbeat of the agent, as the endpoint takes one."""
        self.heartbeats += 1
        named = [{"job_id": job_id, "attempt": attempt} for job_id, attempt in (running or {}).items()]
        result = heartbeat_record(
            agent_id=self.agent.id,
            report=_report(free, named),
            created=self.heartbeats,
            nonce=f"nonce-of-heartbeat-{self.heartbeats}",
        )
        return work_dispatch(
            agent=self.agent,
            labels=["linux"],
            leases=result.heartbeat.leases,
            running=named,
            free_slots=free,
            fresh=result.fresh,
            takes_work=result.fresh and result.heartbeat.status == "healthy",
        )

    def assigned(self, **members: Any) -> str:
        """A job that the agent has been given."""
        job_id = self.job(**members)
        assert [assignment.job_id for assignment in self.heartbeat().assignments] == [job_id]
        return job_id

    def running(self, **members: Any) -> str:
        """A job that the agent runs, and that has printed something."""
        job_id = self.assigned(**members)
        attempt_start(agent=self.agent, job_id=job_id, attempt=1)
        log_append(agent_id=self.agent.id, job_id=job_id, attempt=1, sequence=0, data=b"hello\n")
        return job_id

    def ended(self, **members: Any) -> str:
        """A job that the agent has completed."""
        job_id = self.running(**members)
        attempt_finish(agent=self.agent, job_id=job_id, attempt=1, result=SUCCESS)
        return job_id


class Kept:
    """A world as it is now, to come back to for the price of one call: with the same items, at the same moment."""

    def __init__(self, world: World) -> None:
        assert not _stored_logs()
        self._world, self._heartbeats = world, world.heartbeats
        self._items, self._moment = items_read(emulator_url()), clock.now()

    @contextmanager
    def again(self) -> Iterator[World]:
        """What is done in the block is undone by the next one."""
        items_replace(emulator_url(), self._items)
        logs_empty()
        cache.clear()
        self._world.heartbeats = self._heartbeats
        with clock.shifted(self._moment - clock.now()), ExitStack() as self._world.stack:
            yield self._world


def _report(free: int, running: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cpu_percent": 1,
        "memory_percent": 1,
        "disk_percent": 1,
        "jobs_queued": 0,
        "jobs_completed": 0,
        "uptime_seconds": 1,
        "free_slots": free,
        "running": running,
    }


# --- telling worlds apart -----------------------------------------------------------------------------------------

# What differs between two runs of the same acts: identifiers, moments, hashes of random secrets.
_VARYING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}"), "<id>"),
    (re.compile(r"<id>\.[0-9a-f]{8}"), "<key id>"),
    # Of the value of a secret.
    (re.compile(r"\b[0-9a-f]{12}\b"), "<fingerprint>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "<moment>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<day>"),
    (re.compile(r"#\d{13}#"), "#<moment>#"),
    # In the name of an archived log, and in its index.
    (re.compile(r"\b\d{20}\b"), "<moment>"),
    (re.compile(r'"times":\[[^]]*\]'), "<times>"),
    (re.compile(r'milliseconds\\?":\d+'), "<milliseconds>"),
    (re.compile(r'"line_times":\{"spacing":\d+,"times":"[^"]*"\}'), "<line times>"),
    # When the last attempts of an agent ended.
    (re.compile(r'("e\d": \{"N": ")[1-9]\d{9}"'), r'\1<second>"'),
    # When a chunk of a log was printed.
    (re.compile(r'"at": \{"N": "[\d.]+"\}'), "<second>"),
    # When an agent's last attempts ended.
    (re.compile(r'"(e\d)": \{"N": "\d{10}"\}'), r'"\1": <second>'),
)
# The shard of an audit event, which is drawn by lot, at the end of a key.
_SHARD = re.compile(r'#[1-7](?=")')
# The hint of a label set may lag; polls and the sweep correct it.
# What is packed contains identifiers; the records of the jobs show what it says.
_LEFT_OUT = frozenset(
    {
        *("created", "nonces", "expires_at", "sealed", "password", "data", "revision", "first", "packed", "looked_at"),
        # When a job last got a secret is noted if that is possible.
        *("encrypted", "fingerprint_key", "secrets_key", "delivered_at"),
        # How often an event was tried.
        "attempts",
        *("encrypted_webhook_secret", "encrypted_previous_webhook_secret", "encrypted_token"),
        "encrypted_private_key",
    }
)


def snapshot(items: Items | None = None) -> Counter[str]:
    """Every item of every table, or of `items`, and every stored log, with what varies between two runs out of sight.

    Two counters are equal when the same things have happened, each exactly as often.
    """
    found: Counter[str] = Counter()
    items = items or Items()
    for name, kinds in record_tables().items():
        if kinds[0] is DayCounter:
            continue
        for item in items.of(kinds[0]):
            text = _normalised(item)
            found[f"{name} {_SHARD.sub('', text) if kinds[0] is AuditRecord else text}"] += 1
    # The counters' shares are drawn by lot; what counts is their sum.
    for share in map(DayCounter.from_raw_data, items.of(DayCounter)):
        for counter in COUNTERS:
            found[f"counted {counter}"] += int(getattr(share, counter))
    for file in _stored_logs():
        found[_without_varying(f"log {file.name}: {file.read_bytes()!r}")] += 1
    return +found


def _normalised(item: dict[str, Any]) -> str:
    def prune(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: prune(inner) for name, inner in value.items() if name not in _LEFT_OUT}
        return [prune(inner) for inner in value] if isinstance(value, list) else value

    # The key of an object of DynamoDB's JSON may be a job's id, so the whole text is looked at.
    return _without_varying(json.dumps(prune(item), sort_keys=True, default=repr))


# Most items are those of the world that each act begins in.
@lru_cache(10_000)
def _without_varying(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def difference(expected: Counter[str], found: Counter[str]) -> str:
    """What is missing and what is too much, in words; "" when the two are alike."""
    lines = [f"missing ({count}): {line}" for line, count in (expected - found).items()]
    lines += [f"too much ({count}): {line}" for line, count in (found - expected).items()]
    return "\n".join(lines)


def _stored_logs() -> list[Path]:
    directory = Path(settings.LOG_DIR)
    return sorted(directory.iterdir()) if directory.is_dir() else []


def logs_empty() -> None:
    """Delete all stored logs."""
    for file in _stored_logs():
        file.unlink()


Act = Callable[[], object]
