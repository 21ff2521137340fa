"""What must be true of all records together, whatever has happened; and reading all of them at once.

A test reads every table directly, past the product's own selectors, so that a fault in those hides nothing.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from apps.agents.models import Heartbeat
from apps.audit.models import AuditRecord
from apps.jobs.label_sets import position_job_id, position_priority, set_id
from apps.jobs.models import SETS, DayCounter, Job, QueueEntry, QueueSet
from apps.jobs.states import FINAL, LEASED, Status
from controlplane.nosql.connection import shared_connection
from controlplane.nosql.record import Record
from tests.emulator import items_clear, items_read

COUNTERS = ("created", *FINAL)


class Items:
    """Every item of every table as DynamoDB has it, read at one moment."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, dict[str, Any]]] = json.loads(items_read(emulator_url()))

    def of(self, kind: type[Record]) -> Iterator[dict[str, Any]]:
        """The items of the table in which the kind's records live, with bytes for binary values."""
        for items in self._tables.get(kind.Meta.table_name, {}).values():
            for item in items.values():
                yield {name: _decoded(value) for name, value in item.items()}


def _decoded(value: dict[str, Any]) -> dict[str, Any]:
    """DynamoDB sends binary values as base64, and botocore decodes them."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return {kind: b64decode(content)}
        case "BS":
            return {kind: [b64decode(text) for text in content]}
        case "L":
            return {kind: [_decoded(inner) for inner in content]}
        case "M":
            return {kind: {name: _decoded(inner) for name, inner in content.items()}}
        case _:
            return value


def emulator_url() -> str:
    """Where the records are."""
    return str(shared_connection().client.meta.endpoint_url)


def tables_empty() -> None:
    """Delete every item of every table."""
    items_clear(emulator_url())


@dataclass
class Everything:
    """The current records of the apps jobs, agents and audit."""

    jobs: dict[str, Job] = field(default_factory=dict)
    entries: list[QueueEntry] = field(default_factory=list)
    sets: dict[str, QueueSet] = field(default_factory=dict)
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    acts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def read(cls, items: Items | None = None) -> "Everything":
        """All of them as they are at this moment, or in `items`."""
        found, items = cls(), items or Items()
        found.jobs = {job.job_id: job for job in map(Job.from_raw_data, items.of(Job))}
        found.heartbeats = {
            heartbeat.agent_id: heartbeat for heartbeat in map(Heartbeat.from_raw_data, items.of(Heartbeat))
        }
        for item in items.of(QueueEntry):
            if item["set_id"]["S"] == SETS:
                found.sets[item["position"]["S"]] = QueueSet.from_raw_data(item)
            else:
                found.entries.append(QueueEntry.from_raw_data(item))
        for share in map(DayCounter.from_raw_data, items.of(DayCounter)):
            found.counted.update({name: int(getattr(share, name)) for name in COUNTERS})
        found.acts = Counter((item["action"]["S"], item["target"]["S"]) for item in items.of(AuditRecord))
        return found

    def inconsistencies(self) -> list[str]:
        """Each way in which the records contradict each other, in words; empty when all is well."""
        return [*self._of_the_queue(), *self._of_leases(), *self._of_counters(), *self._of_the_trail()]

    def hidden(self) -> list[str]:
        """The jobs that wait in a set whose hint is less urgent than they are, so that a poll might not read it."""
        return [
            position_job_id(entry.position) for entry in self.entries if entry.position < self.sets[entry.set_id].hint
        ]

    def _of_the_queue(self) -> Iterator[str]:
        entries_of_job = Counter(position_job_id(entry.position) for entry in self.entries)
        for job_id, count in entries_of_job.items():
            if job_id not in self.jobs or self.jobs[job_id].status != Status.QUEUED:
                yield f"an entry for {job_id}, which is not queued"
            if count > 1:
                yield f"{count} entries for {job_id}"
        for job in self.jobs.values():
            if job.status == Status.QUEUED and not entries_of_job[job.job_id]:
                yield f"no entry for the queued job {job.job_id}"
        for entry in self.entries:
            job = self.jobs.get(position_job_id(entry.position))
            if job is not None:
                yield from self._of_an_entry(entry, job)

    def _of_an_entry(self, entry: QueueEntry, job: Job) -> Iterator[str]:
        if entry.set_id != set_id(job.labels):
            yield f"{job.job_id} waits in a set of other labels"
        if entry.set_id not in self.sets:
            yield f"{job.job_id} waits in a label set that is not in the registry"
        elif sorted(self.sets[entry.set_id].labels) != sorted(job.labels):
            yield f"the registry names other labels for the set of {job.job_id}"
        if entry.attempt != job.attempt + 1:
            yield f"the entry of {job.job_id} is for attempt {entry.attempt} after {job.attempt}"
        if int(position_priority(entry.position)) != 100 - job.priority:
            yield f"{job.job_id} waits under another priority"

    def _of_leases(self) -> Iterator[str]:
        leased = Counter(
            (agent_id, job_id, lease.attempt, lease.started, lease.command)
            for agent_id, heartbeat in self.heartbeats.items()
            for job_id, lease in heartbeat.leases.items()
        )
        assigned = Counter(
            (
                job.agent_id,
                job.job_id,
                int(job.attempt),
                job.status == Status.RUNNING,
                "cancel" if job.cancel_requested else None,
            )
            for job in self.jobs.values()
            if job.status in LEASED
        )
        for lease in leased - assigned:
            yield f"an agent has a lease that its job contradicts: {lease}"
        for lease in assigned - leased:
            yield f"an assigned or running job has no lease: {lease}"

    def _of_counters(self) -> Iterator[str]:
        expected = Counter(str(job.status) for job in self.jobs.values() if job.status in FINAL)
        expected["created"] = len(self.jobs)
        for name in COUNTERS:
            if self.counted[name] != expected[name]:
                yield f"{self.counted[name]} jobs are counted as {name}, and there are {expected[name]}"

    def _of_the_trail(self) -> Iterator[str]:
        """The number of acts that each job's own record implies."""
        for job in self.jobs.values():
            target = f"job:{job.job_id}"
            ended = self.acts["job.finished", target] + self.acts["job.cancelled", target]
            facts = {
                "creations": (self.acts["job.created", target] + self.acts["job.retried", target], 1),
                "claims": (self.acts["job.claimed", target], int(job.attempt)),
                "ends": (ended, int(job.status in FINAL)),
                "requests to cancel": (self.acts["job.cancel_requested", target], int(bool(job.cancel_requested))),
            }
            if job.work:
                # A run makes its jobs, and skips or cancels those that wait, by acts of its own.
                del facts["creations"]
                facts |= {"ends": (ended, ended)} if not job.attempt and job.status in FINAL else {}
            for what, (recorded, happened) in facts.items():
                if recorded != happened:
                    yield f"{recorded} {what} of {job.job_id} ({job.status}) are recorded instead of {happened}"
