"""The pages of agents: the fleet by region, and one agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.agents.selectors import agent_get, agent_list, heartbeats_get
from apps.agents.services import agent_drain, agent_resume
from apps.agents.states import TRANSITIONS, AgentStatus
from apps.dashboard.pages import page, refresh_seconds, show
from apps.jobs.selectors import jobs_recent
from apps.jobs.selectors.demand import SetDemand, demand_get
from controlplane.lib.labels import targets_required

PAGE_SIZE = 50
JOBS_OF_AGENT = 10


@dataclass(frozen=True)
class AgentRow:
    """An agent with its last heartbeat (None before the first)."""

    agent: Any
    heartbeat: Any

    @property
    def running(self) -> list[str]:
        """The ids of the jobs that the agent has leases for, sorted."""
        return sorted(self.heartbeat.leases) if self.heartbeat else []


@page(Permission.AGENTS_READ)
def agent_list_page(request: HttpRequest) -> HttpResponse:
    """The fleet: how many agents each region has, and each agent with its load."""
    chosen = {name: request.GET.get(name, "").strip() for name in ("region", "status")}
    cursor = request.GET.get("cursor") or None
    found = agent_list(region=chosen["region"] or None, status=chosen["status"] or None, limit=PAGE_SIZE, cursor=cursor)
    rows = _rows(found.agents)
    query = request.GET.copy()
    query.pop("cursor", None)
    following = query.copy()
    if found.next_cursor:
        following["cursor"] = found.next_cursor
    return show(
        request,
        "agents",
        {
            "section": "agents",
            "regions": [(region, list(group)) for region, group in groupby(rows, key=lambda row: row.agent.region)],
            "fleet": [
                (region, {status.value: counts[status] for status in AgentStatus if counts.get(status)})
                for region, counts in sorted(found.fleet.items())
            ],
            "chosen": chosen,
            "filtered": any(chosen.values()),
            "cursor": cursor,
            "next_query": following.urlencode() if found.next_cursor else "",
            "first_query": query.urlencode(),
            "seconds": refresh_seconds(busy=any(row.running for row in rows)),
        },
    )


@page(Permission.AGENTS_READ)
def agents_waiting_part(request: HttpRequest) -> HttpResponse:
    """The jobs for which slots are missing: a part of the list that loads later, so that the rest does not wait."""
    shortages = [(found, _advice(found)) for found in demand_get().sets if found.slots_missing]
    return show(request, "agents_waiting", {"section": "agents", "shortages": shortages})


@page(Permission.AGENTS_READ)
def agent_page(request: HttpRequest, agent_id: str) -> HttpResponse:
    """One agent: its machine, its load, and its last jobs."""
    row = _rows([agent_get(agent_id)])[0]
    status = AgentStatus(row.agent.status)
    return show(
        request,
        "agent",
        {
            "section": "agents",
            "row": row,
            "agent": row.agent,
            "heartbeat": row.heartbeat,
            "can_drain": AgentStatus.DRAINING in TRANSITIONS[status],
            "can_resume": status in (AgentStatus.DRAINING, AgentStatus.UNHEALTHY),
            "jobs": jobs_recent(agent_id=agent_id, limit=JOBS_OF_AGENT),
            "seconds": refresh_seconds(busy=bool(row.running)),
        },
    )


@page(Permission.AGENTS_MANAGE, "POST")
def agent_drain_action(request: HttpRequest, agent_id: str) -> HttpResponse:
    """Give the agent no new jobs, and redirect to its page."""
    agent = agent_drain(actor=request_actor(request), agent_id=agent_id)
    messages.success(request, f"{agent.name} gets no new jobs. Those that it runs go on.")
    return redirect("dashboard:agent", agent_id=agent_id)


@page(Permission.AGENTS_MANAGE, "POST")
def agent_resume_action(request: HttpRequest, agent_id: str) -> HttpResponse:
    """Give the agent jobs again, and redirect to its page."""
    agent = agent_resume(actor=request_actor(request), agent_id=agent_id)
    messages.success(request, f"{agent.name} gets new jobs again.")
    return redirect("dashboard:agent", agent_id=agent_id)


def _rows(agents: Sequence[Any]) -> list[AgentRow]:
    heartbeats = heartbeats_get([agent.agent_id for agent in agents])
    return [AgentRow(agent, heartbeats.get(agent.agent_id)) for agent in agents]


def _advice(demand: SetDemand) -> str:
    """What to do about the slots that a label set lacks."""
    missing, targets = demand.missing_labels, targets_required(demand.missing_labels)
    if targets and len(targets) == len(missing):
        return f"No healthy agent has the deployment target {', '.join(targets)}. An admin can give it to one."
    if missing:
        labels = f"label{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        return f"No healthy agent has the {labels}. Start one that has, or correct the labels of the jobs."
    if not demand.capacity.agents:
        whose = "has all of these labels" if demand.labels else "is there"
        return f"No healthy agent {whose}. Start one."
    slots = f"{demand.slots_missing} more slot{'s' if demand.slots_missing > 1 else ''}"
    return f"Start agents with {slots}, or wait until jobs end."
