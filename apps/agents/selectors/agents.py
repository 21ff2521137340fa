"""Reading agents. Single agents are read consistently; lists come from an index that lags by moments."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from apps.agents.models import Agent
from apps.agents.selectors.fleet import fleet_counts
from apps.agents.states import AgentStatus
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, NotFound
from controlplane.lib.frozen import frozen
from controlplane.nosql.listing import Listing, Place, place_decode, search_key

REGION = re.compile(r"[A-Za-z0-9._-]{1,63}")

# How many agents one page may look at when few match its filter; the next page continues from there.
_LOOK_AT_MOST = 2_000
# How many agents are looked at where the whole fleet counts.
AGENTS_AT_MOST = 5_000


# The index has all that lists show. It is read 100 entries at a time, since the filter by status may drop many.
_BY_REGION = Listing(Agent, Agent.by_region, is_complete=True, look=100)
_BY_NAME = Listing(Agent, Agent.by_name)


def agent_get(agent_id: str) -> Agent:
    """The agent, read consistently. Raises NotFound."""
    agent = Agent.find(agent_id)
    if agent is None:
        raise NotFound("There is no such agent.", code=ErrorCode.AGENT_NOT_FOUND)
    return agent


@frozen
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
        raise InvalidInput.field("region", "must have 1 to 63 letters, digits, dots, dashes and underscores")
    if status is not None and status not in set(AgentStatus):
        raise InvalidInput.field("status", f"must be one of {', '.join(AgentStatus)}")
    scope = json.dumps(["agents", region, status])
    start = place_decode(scope, cursor)
    fleet = fleet_counts()
    matching = {
        name: sum(count for counted, count in counts.items() if status in (None, counted))
        for name, counts in sorted(fleet.items())
        if region in (None, name)
    }
    page = _BY_REGION.page(
        [name for name, count in matching.items() if count],
        limit=limit,
        keep=lambda agent: status in (None, agent.status),
        start=start,
        look_at_most=_LOOK_AT_MOST,
    )
    return AgentPage(
        agents=page.records,
        total=sum(matching.values()),
        next_cursor=page.next_cursor(scope),
        fleet=fleet,
    )


def agents_named(name: str, *, limit: int) -> list[Agent]:
    """Up to `limit` agents with this name, in any spelling of its case, from an index that lags by moments."""
    within = _BY_NAME.range_key == search_key(name)
    return _BY_NAME.page(sorted(fleet_counts()), limit=limit, within=within).records


def agents_kept(
    regions: Sequence[str], *, keep: Callable[[Agent], bool], look_at_most: int
) -> tuple[list[Agent], bool]:
    """The agents of these regions that are to be kept, without their keys, and whether there may be more.

    It looks at `look_at_most` agents, in one call for each region, or a few for one of thousands.
    """
    page = _BY_REGION.page(regions, limit=look_at_most, keep=keep, look_at_most=look_at_most)
    return page.records, page.next is not None


def agents_by_region(regions: Iterable[str], *, start: Place | None = None) -> Iterator[list[Agent]]:
    """The agents of these regions after the place `start`, in lists of at most 100 of a region, without their keys."""
    return _BY_REGION.batches(regions, start=start)
