"""Which agents could take a job: those with all of its labels, and what keeps each of them from taking it now."""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from django.core.cache import cache

from apps.agents.models import KEPT_ENDS, Heartbeat
from apps.agents.selectors.agents import AGENTS_AT_MOST, agents_kept
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.selectors.heartbeats import heartbeats_get
from apps.agents.states import LEASE, AgentStatus
from controlplane.lib import clock
from controlplane.lib.frozen import frozen
from controlplane.lib.labels import labels_offered

# How many agents with the right labels are looked at for room.
_HEARTBEATS_AT_MOST = 100
# How long a process uses what it has read of the fleet.
_KEPT_SECONDS = 5
# The seconds of an hour: older ends of jobs say nothing of the rate.
_HOUR = 3600
_LISTED = "candidates-listed"


@frozen
class Candidates:
    """How many agents have all labels of a job, and how many of these are kept from taking it, by what.

    `free` are the ids of those that can take a job at once. `missing` are the labels that no agent has, and
    `fleet` is how many agents there are; retired ones never count. `offline_since` is the last heartbeat of those that
    are offline, as a text of `controlplane.lib.clock`. `hourly_ends` is how many jobs those that are online and take
    work have ended lately, for an hour; 0 if none in the last hour. `by_label` has, where no agent has all labels, how
    many have each of them. `is_partial` says that there may be more agents than were read.
    """

    fleet: int
    total: int = 0
    free: tuple[str, ...] = ()
    busy: int = 0
    draining: int = 0
    unfit: int = 0
    unfit_reason: str | None = None
    offline: int = 0
    offline_since: str | None = None
    hourly_ends: float = 0
    missing: tuple[str, ...] = ()
    by_label: tuple[tuple[str, int], ...] = ()
    is_partial: bool = False


@frozen
class _Listed:
    agent_id: str
    labels: frozenset[str]
    slots: int


def candidates_get(labels: Collection[str]) -> Candidates:
    """The agents that could take a job with these labels, as they were up to `_KEPT_SECONDS` ago.

    Costs no call, unless the process last read them longer ago: one for the fleet's counters, one for each region's
    agents, and one for the heartbeats of those that have the labels.
    """
    key = f"candidates:{hashlib.sha256(json.dumps(sorted(labels)).encode()).hexdigest()}"
    known: Candidates | None = cache.get(key)
    if known is None:
        known = _read(labels)
        cache.set(key, known, _KEPT_SECONDS)
    return known


def _read(labels: Collection[str]) -> Candidates:
    listed, is_partial = _listed()
    able = [agent for agent in listed if agent.labels.issuperset(labels)]
    if not able:
        by_label = tuple((label, sum(label in agent.labels for agent in listed)) for label in sorted({*labels}))
        missing = tuple(label for label, agents in by_label if not agents)
        return Candidates(fleet=len(listed), missing=missing, by_label=by_label, is_partial=is_partial)
    return _counted(
        able[:_HEARTBEATS_AT_MOST], fleet=len(listed), is_partial=is_partial or len(able) > _HEARTBEATS_AT_MOST
    )


def _listed() -> tuple[list[_Listed], bool]:
    """The agents that are not retired, and whether there are more than were read."""
    known: tuple[list[_Listed], bool] | None = cache.get(_LISTED)
    if known is None:
        agents, is_partial = agents_kept(
            sorted(fleet_counts()),
            keep=lambda agent: agent.status != AgentStatus.RETIRED,
            look_at_most=AGENTS_AT_MOST,
        )
        listed = [
            _Listed(agent.agent_id, frozenset(labels_offered(agent.labels, agent.deployment_targets)), int(agent.slots))
            for agent in agents
        ]
        known = listed, is_partial
        cache.set(_LISTED, known, _KEPT_SECONDS)
    return known


def _counted(agents: Sequence[_Listed], *, fleet: int, is_partial: bool) -> Candidates:
    heartbeats = heartbeats_get([agent.agent_id for agent in agents])
    kept: dict[str | None, list[str]] = {}
    for agent in agents:
        kept.setdefault(_kept_by(heartbeats.get(agent.agent_id), agent.slots), []).append(agent.agent_id)
    working = [heartbeats[agent_id] for agent_id in (*kept.get(None, ()), *kept.get("busy", ()))]
    unfit, offline = kept.get("unfit", []), kept.get("offline", [])
    return Candidates(
        fleet=fleet,
        total=len(agents),
        free=tuple(kept.get(None, ())),
        busy=len(kept.get("busy", ())),
        draining=len(kept.get("draining", ())),
        unfit=len(unfit),
        unfit_reason=next((heartbeats[agent_id].status_reason for agent_id in unfit), None),
        offline=len(offline),
        offline_since=max((heartbeats[agent_id].at for agent_id in offline if agent_id in heartbeats), default=None),
        hourly_ends=sum(map(_hourly_ends, working)),
        is_partial=is_partial,
    )


def _hourly_ends(heartbeat: Heartbeat) -> float:
    """How many attempts the agent has ended in the last hour, or in an hour as fast as the last `KEPT_ENDS`."""
    now = clock.epoch()
    ages = [age for age in (max(1, now - end) for end in heartbeat.ends) if age <= _HOUR]
    if not ages:
        return 0
    if len(ages) == KEPT_ENDS:
        # The oldest one only begins the time in which the others ended.
        return (KEPT_ENDS - 1) * _HOUR / ages[-1]
    # An agent that has just been started has had less than an hour for them.
    return len(ages) * _HOUR / min(_HOUR, max(ages[-1], int(heartbeat.uptime_seconds)))


def _kept_by(heartbeat: Any, slots: int) -> str | None:
    """What keeps an agent from taking a job now; None for one that can."""
    if heartbeat is None or clock.now() - clock.parse_timestamp(heartbeat.at) > LEASE:
        return "offline"
    if heartbeat.status == AgentStatus.DRAINING:
        return "draining"
    if heartbeat.status_reason:
        return "unfit"
    return "busy" if len(heartbeat.leases) >= heartbeat.lease_limit(slots) else None
