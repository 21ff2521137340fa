"""What is noted of the work at hand, be it a request or a schedule: for the log, the metrics and the trace.

Whoever notes something need not know who reads it, and nothing is noted where nobody has begun a work: in tests of
single functions, in most commands. `controlplane.observability` begins works, and writes what they hold.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from controlplane.lib.actor import Actor


@dataclass(frozen=True, slots=True)
class Span:
    """One call to DynamoDB: what was asked of which tables, when (in seconds since 1970), and how it went."""

    operation: str
    tables: tuple[str, ...]
    began: float
    ended: float
    failed: bool


@dataclass(slots=True)
class Work:
    """What a request, or a schedule, is about and what it has cost so far."""

    request_id: str
    # The address's pattern, with parameters in braces; a schedule's name.
    route: str = ""
    actor: Actor | None = None
    job_id: str | None = None
    agent_id: str | None = None
    # What a request was answered with, and why if it was refused or failed.
    status: int | None = None
    failure: BaseException | None = None
    dynamodb_calls: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    # By their names in `metric_names`.
    measures: list[tuple[str, float]] = field(default_factory=list)
    # None unless somebody follows this work's trace.
    spans: list[Span] | None = None


_current: ContextVar[Work | None] = ContextVar("work", default=None)


def current_work() -> Work | None:
    """The work that this thread is at, if any."""
    return _current.get()


@contextmanager
def at_work(work: Work) -> Iterator[Work]:
    """Inside the block, what is noted is noted of `work`."""
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def actor_note(actor: Actor) -> None:
    """Who has been found to ask for the work."""
    work = _current.get()
    if work is not None:
        work.actor = actor


def subject_note(*, job_id: str | None = None, agent_id: str | None = None) -> None:
    """Which job or agent the work is about, unless its address, or an earlier note, has said so."""
    work = _current.get()
    if work is not None:
        work.job_id = work.job_id or job_id
        work.agent_id = work.agent_id or agent_id


def failure_note(failure: BaseException | None) -> None:
    """Why the work is refused, or fails."""
    work = _current.get()
    if work is not None:
        work.failure = failure


def measure(name: str, value: float) -> None:
    """Something has happened that is counted or timed under a name of `metric_names`."""
    work = _current.get()
    if work is not None:
        work.measures.append((name, value))


def capacity_note(work: Work, answer: dict[str, Any], *, writes: bool) -> None:
    """Add the units that an answer of DynamoDB's says were used: one figure a table for calls on several of them."""
    consumed = answer.get("ConsumedCapacity") or ()
    tables: Iterable[dict[str, float]] = (consumed,) if isinstance(consumed, dict) else consumed
    for table in tables:
        # Transactions tell both kinds apart; of other calls all units are of one.
        units: float = table.get("CapacityUnits", 0.0)
        work.write_units += table.get("WriteCapacityUnits", units if writes else 0.0)
        work.read_units += table.get("ReadCapacityUnits", 0.0 if writes else units)
