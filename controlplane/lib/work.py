"""Notes about the current work (a request or a scheduled task) for the log, the metrics and the trace.

All code may add notes. `controlplane.observability` begins each work and writes its notes at the end. Outside of a
work, for example in most commands, the functions here do nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from controlplane.lib.actor import Actor
from controlplane.lib.frozen import frozen


@frozen
class Span:
    """One call to DynamoDB: its operation, its tables, its times (in seconds since 1970), and whether it failed."""

    operation: str
    tables: tuple[str, ...]
    began: float
    ended: float
    failed: bool


@dataclass(slots=True)
class Work:
    """A request or a scheduled task: its subject, and its cost so far."""

    request_id: str
    # The pattern of the address with parameters in braces, or the name of the schedule.
    route: str = ""
    actor: Actor | None = None
    # Finds the IP address of the client, which few requests need.
    client: Callable[[], str] | None = None
    # The public id of the session that makes the request.
    session: str | None = None
    job_id: str | None = None
    agent_id: str | None = None
    # The status of the response, and the exception if the request was refused or failed.
    status: int | None = None
    failure: BaseException | None = None
    dynamodb_calls: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    # The reads and writes that DynamoDB throttled, also those that a retry got done.
    dynamodb_throttles: int = 0
    # Pairs of a name of `metric_names` and a value.
    measures: list[tuple[str, float]] = field(default_factory=list)
    # None unless this work is traced.
    spans: list[Span] | None = None


_current: ContextVar[Work | None] = ContextVar("work", default=None)


def current_work() -> Work | None:
    """The work of this thread, or None."""
    return _current.get()


@contextmanager
def at_work(work: Work) -> Iterator[Work]:
    """Make `work` the current work inside the block."""
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def actor_note(actor: Actor) -> None:
    """Note the actor of the work."""
    work = _current.get()
    if work is not None:
        work.actor = actor


def session_note(session: str | None) -> None:
    """Note the public id of the session that makes the request."""
    work = _current.get()
    if work is not None and session:
        work.session = session


def subject_note(*, job_id: str | None = None, agent_id: str | None = None) -> None:
    """Note the job or the agent of the work. The address and earlier notes take precedence."""
    work = _current.get()
    if work is not None:
        work.job_id = work.job_id or job_id
        work.agent_id = work.agent_id or agent_id


def failure_note(failure: BaseException | None) -> None:
    """Note the exception by which the work is refused or fails."""
    work = _current.get()
    if work is not None:
        work.failure = failure


def measure(name: str, value: float) -> None:
    """Add a value to the metric `name`, one of `metric_names`."""
    work = _current.get()
    if work is not None:
        work.measures.append((name, value))


def capacity_note(work: Work, answer: dict[str, Any], *, writes: bool) -> None:
    """Add the capacity units in an answer of DynamoDB, which has one figure for each table of the call."""
    consumed = answer.get("ConsumedCapacity") or ()
    tables: Iterable[dict[str, float]] = (consumed,) if isinstance(consumed, dict) else consumed
    for table in tables:
        # Transactions report reads and writes separately. All units of another call are of one kind.
        units: float = table.get("CapacityUnits", 0.0)
        work.write_units += table.get("WriteCapacityUnits", units if writes else 0.0)
        work.read_units += table.get("ReadCapacityUnits", 0.0 if writes else units)
