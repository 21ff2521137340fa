"""Reading agents. Single agents are read consistently; lists come from an index that lags by moments."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apps.agents.models import Agent
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import AgentStatus
from controlplane.lib.cursors import cursor_decode, cursor_encode
from controlplane.lib.errors import InvalidInput, NotFound

REGION = re.compile(r"[A-Za-z0-9._-]{1,63}")

# DynamoDB reads at most this many items in one BatchGet.
_BATCH = 100
# How many agents one page of a list may look at when a filter matches few of them; the cursor then goes on from there.
_LOOK_AT_MOST = 2_000


def agent_get(agent_id: str) -> Agent:
    """The agent, read consistently. Raises NotFound."""
    agent = Agent.find(agent_id)
    if agent is None:
        raise NotFound("There is no such agent.", code="agent_not_found")
    return agent


@dataclass(frozen=True)
class AgentPage:
    """A page of a list, by region and then by age. `total` counts all that match; `fleet` is as of `fleet_counts`."""

    agents: list[Agent]
    total: int
    next_cursor: str | None
    fleet: dict[str, dict[str, int]]


def agent_list(
    *, region: str | None = None, status: str | None = None, limit: int = 50, cursor: str | None = None
) -> AgentPage:
    """A page of the agents of a region or of all, with a stored status or any; the agents' keys are left out.

    A page may be shorter than `limit` and still have a next one. Raises InvalidInput (field "region", "status" or
    "cursor").
    """
    if region is not None and not REGION.fullmatch(region):
        raise InvalidInput.field("region", "is 1 to 63 letters, digits, dots, dashes and underscores")
    if status is not None and status not in set(AgentStatus):
        raise InvalidInput.field("status", f"is one of {', '.join(AgentStatus)}")
    scope = json.dumps(["agents", region, status])
    after = cursor_decode(scope, cursor) if cursor else None
    fleet = fleet_counts()
    matching = {
        name: sum(count for counted, count in counts.items() if status in (None, counted))
        for name, counts in sorted(fleet.items())
        if region in (None, name)
    }
    agents, last = _page([name for name, count in matching.items() if count], status, limit, after)
    return AgentPage(
        agents=agents,
        total=sum(matching.values()),
        next_cursor=cursor_encode(scope, last) if last else None,
        fleet=fleet,
    )


def _page(
    regions: Iterable[str], status: str | None, limit: int, after: dict[str, str] | None
) -> tuple[list[Agent], dict[str, str] | None]:
    """Up to `limit` agents after the place `after`, and the place to go on from if there may be more."""
    found: list[Agent] = []
    looked_at = 0
    for agents in agents_by_region(regions, after):
        for agent in agents:
            if status not in (None, agent.status):
                continue
            if len(found) == limit:
                return found, _place(found[-1])
            found.append(agent)
        looked_at += len(agents)
        if looked_at >= _LOOK_AT_MOST:
            return found, _place(agents[-1])
    return found, None


def _place(agent: Agent) -> dict[str, str]:
    return {"region": agent.region, "agent_id": agent.agent_id}


def agents_by_region(regions: Iterable[str], after: dict[str, str] | None = None) -> Iterator[list[Agent]]:
    """The agents of these regions in lists of at most 100, those after the place `after`."""
    for region in regions:
        if after and region < after["region"]:
            continue
        start = {name: {"S": text} for name, text in after.items()} if after and region == after["region"] else None
        pages = Agent.by_region.query(region, page_size=_BATCH, last_evaluated_key=start).page_iter
        for page in pages:
            if page["Items"]:
                yield [Agent.from_raw_data(item) for item in page["Items"]]
