"""The records of agents: who they are, their last heartbeat, the tokens that let them in, and how many there are."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pynamodb.attributes import (
    Attribute,
    BooleanAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    TTLAttribute,
    UnicodeAttribute,
)
from pynamodb.constants import STRING
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from apps.agents.states import STEP_STATES
from controlplane.lib import clock
from controlplane.nosql.record import Record, table_name

# One partition for all counters: there are at most five for each region, however many agents.
FLEET = "fleet"

# Beyond this size a beat keeps the running jobs without their steps: an item may have 400 KB.
RUNNING_LIMIT_BYTES = 64 * 1024

_STEP_STATE_OF = {letter: state for state, letter in STEP_STATES.items()}


class AgentKey(MapAttribute[str, Any]):
    """One of an agent's signing keys, sealed (associated data: agent id and key id)."""

    key_id = UnicodeAttribute()
    sealed = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # The agent has signed with it, so nobody is told the key any more.
    used = BooleanAttribute(default=False)


class AgentsByRegion(GlobalSecondaryIndex["Agent"]):
    """The agents of a region. Holds what lists show and never a key; rewritten only when an agent's status changes."""

    class Meta:
        index_name = "by_region"
        billing_mode = "PAY_PER_REQUEST"
        projection = IncludeProjection(
            [
                "name",
                "labels",
                "slots",
                "status",
                "hostname",
                "os",
                "arch",
                "version",
                "deployment_targets",
                "created_at",
            ]
        )

    region = UnicodeAttribute(hash_key=True)
    agent_id = UnicodeAttribute(range_key=True)


class AgentsByName(GlobalSecondaryIndex["Agent"]):
    """The agents of a region by name without regard to case. Rewritten by nothing: neither ever changes."""

    class Meta:
        index_name = "by_name"
        billing_mode = "PAY_PER_REQUEST"
        projection = KeysOnlyProjection()

    region = UnicodeAttribute(hash_key=True)
    name_key = UnicodeAttribute(range_key=True)


class Agent(Record):
    """Who an agent is and how it is configured. Changes rarely; what changes with each heartbeat is in `Beat`."""

    class Meta(Record.Meta):
        table_name = table_name("agents")

    agent_id = UnicodeAttribute(hash_key=True)
    name = UnicodeAttribute()
    region = UnicodeAttribute()
    labels: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    slots = NumberAttribute()
    status = UnicodeAttribute()
    hostname = UnicodeAttribute(default="")
    os = UnicodeAttribute(default="")
    arch = UnicodeAttribute(default="")
    version = UnicodeAttribute(default="")
    deployment_targets: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # At most two, the newest first; the second one lives for another 24 hours after the first one's making.
    keys: ListAttribute[Any] = ListAttribute(of=AgentKey, default=list)
    # Goes up with every change that the agent should fetch its configuration for.
    config_version = NumberAttribute(default=1)
    created_at = UnicodeAttribute()
    # `controlplane.nosql.listing.search_key` of the name.
    name_key = UnicodeAttribute()

    by_region = AgentsByRegion()
    by_name = AgentsByName()


class RunningAttribute(Attribute[list[dict[str, Any]]]):
    """The running jobs of a heartbeat: ``[{job_id, attempt, steps?}]``, as the report has them.

    Kept as one short text (states as letters, times as milliseconds), so that a usual beat stays under 1 KB and costs
    one write unit. Steps are left out where the text would grow beyond RUNNING_LIMIT_BYTES.
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
            STEP_STATES[step["state"]],
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
        "state": _STEP_STATE_OF[letter],
        "exit_code": exit_code,
        "started_at": _moment(started),
        "completed_at": _moment(completed),
    }


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else (clock.parse_timestamp(text) - _EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else clock.timestamp(_EPOCH + timedelta(milliseconds=milliseconds))


@dataclass(frozen=True)
class Holding:
    """An attempt of a job that an agent holds: since when, whether it has acknowledged it, and what is wished of it."""

    attempt: int
    at: str
    started: bool
    wish: str | None = None


class Beat(Record):
    """An agent's last heartbeat and the jobs it holds: the only item that is written every few seconds.

    `held` is ``{job_id: {"attempt": int, "at": timestamp of the assignment, "started": bool, "wish": "cancel"}}``;
    `wish` may be absent. This is the lease: a job is held while the beat's own `at` is younger than 45 s.
    """

    class Meta(Record.Meta):
        table_name = table_name("heartbeats")

    agent_id = UnicodeAttribute(hash_key=True)
    # The signature's `created` of the last beat, and the nonces of that second: time only moves forward.
    created = NumberAttribute(default=0)
    nonces: ListAttribute[Any] = ListAttribute(of=UnicodeAttribute, default=list)
    # When the server took it.
    at = UnicodeAttribute()
    cpu_percent = NumberAttribute(null=True)
    memory_percent = NumberAttribute(null=True)
    disk_percent = NumberAttribute(null=True)
    jobs_queued = NumberAttribute(default=0)
    jobs_completed = NumberAttribute(default=0)
    uptime_seconds = NumberAttribute(default=0)
    free_slots = NumberAttribute(default=0)
    running = RunningAttribute(default=list)
    # Follows Agent.status, always in the same transaction.
    status = UnicodeAttribute()
    held: MapAttribute[str, Any] = MapAttribute(default=dict)

    @property
    def holdings(self) -> dict[str, Holding]:
        """`held`, by the job's id."""
        return {job_id: Holding(**held) for job_id, held in self.held.as_dict().items()}


# The one partition of the index that lists enrolment tokens, which all expire: docs/decisions/0010-admin.md
ENROLMENT_TOKENS = "enrolment-tokens"


class TokensByAge(GlobalSecondaryIndex["EnrolmentToken"]):
    """All tokens, by the time of their making. Receipts, which stand in the same table, are not in it."""

    class Meta:
        index_name = "by_age"
        billing_mode = "PAY_PER_REQUEST"
        projection = KeysOnlyProjection()

    registry = UnicodeAttribute(hash_key=True)
    created_at = UnicodeAttribute(range_key=True)


class EnrolmentToken(Record):
    """A secret that lets a number of new agents in until it expires; known here by its SHA-256 only."""

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    token_id = UnicodeAttribute()
    uses_left = NumberAttribute()
    created_by = UnicodeAttribute()
    created_at = UnicodeAttribute()
    # DynamoDB deletes late, so this is checked too.
    expires_at = TTLAttribute()
    registry = UnicodeAttribute(default=ENROLMENT_TOKENS)

    by_age = TokensByAge()


class EnrolmentReceipt(Record):
    """Which agent an enrolment made, for the machine that asks again because it never heard the answer.

    The hash is taken of the token and the machine's idempotency key together.
    """

    class Meta(Record.Meta):
        table_name = table_name("enrolment-tokens")

    hash = UnicodeAttribute(hash_key=True)
    agent_id = UnicodeAttribute()
    expires_at = TTLAttribute()


class FleetCounter(Record):
    """How many agents of a region have a status; changed in the transaction that changes the agent."""

    class Meta(Record.Meta):
        table_name = table_name("fleet")

    fleet = UnicodeAttribute(hash_key=True, default=FLEET)
    # "region#status"
    key = UnicodeAttribute(range_key=True)
    agents = NumberAttribute(default=0)
