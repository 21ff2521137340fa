"""An agent's last heartbeat and its leases on jobs, which the heartbeat renews."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from pynamodb.attributes import Attribute, ListAttribute, MapAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.constants import STRING
from pynamodb.expressions.condition import Condition, size

from apps.agents.states import MOST_IN_A_ROW, StepState
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.nosql.record import Record, table_name

# A heartbeat with more than this is stored without its jobs' steps: DynamoDB's items have at most 400 KB.
RUNNING_LIMIT_BYTES = 64 * 1024

# How many ends of attempts a heartbeat keeps.
KEPT_ENDS = 6

# What a stored heartbeat has for each state of a step.
_STEP_LETTERS = {
    StepState.PENDING: "p",
    StepState.RUNNING: "r",
    StepState.COMPLETED: "c",
    StepState.FAILED: "f",
    StepState.TIMED_OUT: "t",
    StepState.CANCELLED: "x",
    StepState.SKIPPED: "s",
}
_STEP_STATES = {letter: state.value for state, letter in _STEP_LETTERS.items()}


class RunningAttribute(Attribute[list[dict[str, Any]]]):
    """The running jobs of a heartbeat: ``[{job_id, attempt, steps?}]``, as the report has them.

    Stored as one short text (states as letters, times as milliseconds), so that a usual heartbeat stays under 1 KB and
    costs one write unit. A text of more than RUNNING_LIMIT_BYTES is stored without the steps.
    """

    attr_type = STRING

    def serialize(self, value: list[dict[str, Any]]) -> str:
        text = _compact([[entry["job_id"], entry["attempt"], _steps_shorten(entry)] for entry in value])
        if len(text.encode()) > RUNNING_LIMIT_BYTES:
            text = _compact([[entry["job_id"], entry["attempt"], None] for entry in value])
        return text

    def deserialize(self, value: str) -> list[dict[str, Any]]:
        running = []
        for job_id, attempt, steps in json.loads(value):
            entry = {"job_id": job_id, "attempt": attempt}
            if steps is not None:
                entry["steps"] = [_step_expand(step) for step in steps]
            running.append(entry)
        return running


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _steps_shorten(entry: dict[str, Any]) -> list[list[Any]] | None:
    steps = entry.get("steps")
    if steps is None:
        return None
    return [
        [
            step["name"],
            _STEP_LETTERS[step["state"]],
            step["exit_code"],
            _milliseconds(step["started_at"]),
            _milliseconds(step["completed_at"]),
        ]
        for step in steps
    ]


def _step_expand(step: list[Any]) -> dict[str, Any]:
    name, letter, exit_code, started, completed = step
    return {
        "name": name,
        "state": _STEP_STATES[letter],
        "exit_code": exit_code,
        "started_at": _moment(started),
        "completed_at": _moment(completed),
    }


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else (clock.parse_timestamp(text) - _EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else clock.timestamp(_EPOCH + timedelta(milliseconds=milliseconds))


@frozen
class Lease:
    """An agent's lease on an attempt: since when, whether the agent has started it, and the command for it, if any.

    `limit` is the time limit in seconds from the start on, and `command_at` the time of the command. Leases that an
    earlier version has written lack both.
    """

    attempt: int
    at: str
    started: bool
    command: str | None = None
    limit: int | None = None
    command_at: str | None = None


class Heartbeat(Record):
    """An agent's last heartbeat and its leases: the only item that is written every few seconds.

    `lease_map` is ``{job_id: {"attempt": int, "at": timestamp, "started": bool, "limit": seconds, "wish": "cancel",
    "wish_at": timestamp}}``: `at` is the time of the assignment or, once `started`, of the start; `limit` is there from
    the start on; `wish`, a cancel request, and its time may be absent. The leases end `apps.agents.states.LEASE` after
    the heartbeat's own `at`.
    """

    class Meta(Record.Meta):
        table_name = table_name("heartbeats")

    agent_id = UnicodeAttribute(hash_key=True)
    # The signature's `created` of the last heartbeat, and the nonces of that second: time only moves forward.
    created = NumberAttribute(default=0)
    nonces: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # When the server recorded it.
    at = UnicodeAttribute()
    cpu_percent = NumberAttribute(null=True)
    memory_percent = NumberAttribute(null=True)
    disk_percent = NumberAttribute(null=True)
    jobs_queued = NumberAttribute(default=0)
    jobs_completed = NumberAttribute(default=0)
    uptime_seconds = NumberAttribute(default=0)
    free_slots = NumberAttribute(default=0)
    running = RunningAttribute(default=list)
    # The machine that sent it, if the agent reports it.
    boot_id = UnicodeAttribute(null=True)
    hostname = UnicodeAttribute(null=True)
    # When another machine with the same identity was last recorded in the audit trail.
    copy_noticed_at = UnicodeAttribute(null=True)
    # Attempts in a row that ended by a failure of the machine, and offers in a row that the agent did not acknowledge.
    faults = NumberAttribute(default=0)
    fault_at = UnicodeAttribute(null=True)
    fault_reason = UnicodeAttribute(null=True)
    ignored = NumberAttribute(default=0)
    ignored_at = UnicodeAttribute(null=True)
    # When the last attempts ended that ran to their end, in seconds since 1970, the newest first; 0 for none.
    ended_1 = NumberAttribute(null=True, attr_name="e1")
    ended_2 = NumberAttribute(null=True, attr_name="e2")
    ended_3 = NumberAttribute(null=True, attr_name="e3")
    ended_4 = NumberAttribute(null=True, attr_name="e4")
    ended_5 = NumberAttribute(null=True, attr_name="e5")
    ended_6 = NumberAttribute(null=True, attr_name="e6")
    # Follows Agent.status, always in the same transaction.
    status = UnicodeAttribute()
    # Why an agent that sends heartbeats is unhealthy.
    status_reason = UnicodeAttribute(null=True)
    # When the sweep found the agent retired. The agent is deleted some time later.
    retired_at = UnicodeAttribute(null=True)
    lease_map: MapAttribute[str, Any] = MapAttribute(default=dict, attr_name="held")

    @classmethod
    def has_room(cls, slots: int) -> Condition:
        """The condition that the agent has fewer leases than this."""
        condition: Condition = size(cls.lease_map) < slots
        return condition

    def lease_limit(self, slots: int) -> int:
        """How many leases the agent may have: one while it must prove that its machine is fit again, else its slots."""
        return 1 if max(self.faults, self.ignored) >= MOST_IN_A_ROW else slots

    @classmethod
    def end_note(cls, at: int) -> list[Any]:
        """The actions that note an attempt's end (seconds since 1970) without reading the item: each mark moves on."""
        marks = [getattr(cls, f"ended_{number}") for number in range(1, KEPT_ENDS + 1)]
        moved = [older.set(newer | 0) for newer, older in reversed([*pairwise(marks)])]
        return [*moved, marks[0].set(at)]

    @property
    def ends(self) -> list[int]:
        """When the last attempts ended, the newest first: `KEPT_ENDS` at most, in seconds since 1970."""
        marks = (getattr(self, f"ended_{number}") for number in range(1, KEPT_ENDS + 1))
        return [int(mark) for mark in marks if mark]

    @property
    def leases(self) -> dict[str, Lease]:
        """The leases by their jobs' ids."""
        return {
            job_id: Lease(
                kept["attempt"],
                kept["at"],
                kept["started"],
                command=kept.get("wish"),
                limit=kept.get("limit"),
                command_at=kept.get("wish_at"),
            )
            for job_id, kept in self.lease_map.as_dict().items()
        }
