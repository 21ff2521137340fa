"""A rotator for agents' keys: each agent gets a new one, and must sign with it before the old one ends."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from apps.agents.models import Agent, AgentKey
from apps.agents.selectors import agent_get, agent_list, identity_forget
from apps.agents.services.keys import key_make
from apps.agents.services.lifecycle import ATTEMPTS
from apps.agents.states import AgentStatus
from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import NotFound, Unavailable
from controlplane.lib.ids import ID_PATTERN
from controlplane.lib.rotation import Notes, NotYet, Option, Rotator, Step, StepRefused
from controlplane.nosql.transaction import Transaction, TransactionFailed

# The ids of all agents of a rotation are in its record.
_MOST_AGENTS = 300
# So many agents are changed in one call of a step, which takes a few seconds.
_AT_ONCE = 100
_LOOK_AGAIN = timedelta(seconds=20)
_NAMED = 5
# Agents that are dead cannot fetch a key, and retired ones need none.
_STATUSES = (AgentStatus.HEALTHY, AgentStatus.UNHEALTHY, AgentStatus.DRAINING)


class AgentKeys(Rotator):
    """The value of the secret is no key, only a name of this rotation from which the ids of the new keys follow.

    An agent fetches its key within a minute. If one does not sign with its new key in time, all agents get their old
    keys back; an agent that has taken the new one may use it until it has fetched the old one.
    """

    title = "agents' keys"
    options: ClassVar[Mapping[str, Option]] = {
        "agents": Option(
            f"must be ids of at most {_MOST_AGENTS} agents, or left out for all that are not dead or retired",
            kind=list,
            pattern=ID_PATTERN,
            most=_MOST_AGENTS,
            default=[],
        )
    }
    # The server ends an old key 24 hours after the new one was made, whatever happens here.
    patience = timedelta(hours=12)

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{len(config['agents'])} agents" if config["agents"] else "all agents"

    def prepare(self, step: Step) -> Notes | None:
        wanted = list(step.config["agents"]) or list(_all_agents())
        if len(wanted) > _MOST_AGENTS:
            raise StepRefused(f"There are more than {_MOST_AGENTS} agents. Rotate their keys by several secrets.")
        found = {str(agent.agent_id) for agent in Agent.find_many(wanted)}
        missing = [agent_id for agent_id in wanted if agent_id not in found]
        if missing:
            raise StepRefused(f"There is no agent with the id {missing[0]}. Remove it from the rotator's agents.")
        if not wanted:
            raise StepRefused("There is no agent.")
        return {"agents": " ".join(wanted)}

    def make(self, step: Step) -> str:
        return f"agents-keys-{secrets.token_hex(8)}"

    def apply(self, step: Step) -> Notes | None:
        return self._each(step, lambda agent: _keys_with_new(agent, _key_id(step.new, str(agent.agent_id))))

    def verify(self, step: Step) -> Notes | None:
        waiting = [
            agent.name
            for agent in self._agents(step)
            if not (_has_newest(agent, _key_id(step.new, str(agent.agent_id))) and agent.keys[0].used)
        ]
        if waiting:
            names = ", ".join(waiting[:_NAMED]) + (" …" if len(waiting) > _NAMED else "")
            raise NotYet(f"{len(waiting)} agents have not signed with their new keys: {names}.", after=_LOOK_AGAIN)
        return None

    def commit(self, step: Step) -> Notes | None:
        return self._each(step, lambda agent: _keys_without_old(agent, _key_id(step.new, str(agent.agent_id))))

    def revert(self, step: Step) -> Notes | None:
        return self._each(step, lambda agent: _keys_as_before(agent, _key_id(step.new, str(agent.agent_id))))

    def _each(self, step: Step, keys_of: Callable[[Agent], list[AgentKey] | None]) -> Notes | None:
        """Change the keys of all agents that need it. `keys_of` returns None for one whose keys are right."""
        changed = 0
        for agent in self._agents(step):
            if keys_of(agent) is None:
                continue
            if changed == _AT_ONCE:
                raise NotYet("The agents get their keys one after another.", after=timedelta())
            _keys_change(str(agent.agent_id), keys_of)
            changed += 1
        return None

    def _agents(self, step: Step) -> Iterator[Agent]:
        """Those of the rotation that are not retired or deleted."""
        for agent_id in step.notes.get("agents", "").split():
            try:
                agent = agent_get(agent_id)
            except NotFound:
                continue
            if agent.status != AgentStatus.RETIRED:
                yield agent


def _all_agents() -> Iterator[str]:
    for status in _STATUSES:
        cursor: str | None = None
        while True:
            page = agent_list(status=status.value, limit=100, cursor=cursor)
            yield from (str(agent.agent_id) for agent in page.agents)
            cursor = page.next_cursor
            if cursor is None:
                break


def _key_id(value: str, agent_id: str) -> str:
    """The id of the key that an agent gets in the rotation with this value."""
    return f"{agent_id}.{hashlib.sha256(f'{value} {agent_id}'.encode()).hexdigest()[:8]}"


def _has_newest(agent: Agent, key_id: str) -> bool:
    return bool(agent.keys[0].key_id == key_id)


def _keys_with_new(agent: Agent, key_id: str) -> list[AgentKey] | None:
    if any(key.key_id == key_id for key in agent.keys):
        return None
    key, _ = key_make(str(agent.agent_id), key_id=key_id)
    # The agent has the newest key that it ever used, or else the one from its enrolment.
    return [key, next((old for old in agent.keys if old.used), agent.keys[0])]


def _keys_without_old(agent: Agent, key_id: str) -> list[AgentKey] | None:
    return [agent.keys[0]] if _has_newest(agent, key_id) and len(agent.keys) > 1 else None


def _keys_as_before(agent: Agent, key_id: str) -> list[AgentKey] | None:
    if not _has_newest(agent, key_id) or len(agent.keys) < 2:
        return None
    new, old = agent.keys
    # As if it were new: an agent that signs with the other key gets it, and has as long as for any new key.
    old.used = False
    old.created_at = clock.timestamp(clock.now())
    return [old, new]


def _keys_change(agent_id: str, keys_of: Callable[[Agent], Sequence[AgentKey] | None]) -> None:
    for _ in range(ATTEMPTS):
        agent = agent_get(agent_id)
        keys = keys_of(agent)
        if keys is None:
            return
        newest = agent.keys[0]
        was, was_used = newest.key_id, newest.used
        tx = Transaction()
        tx.update(
            "agent",
            Agent(agent_id),
            actions=[Agent.keys.set(list(keys)), Agent.config_version.add(1)],
            condition=(Agent.keys[0]["key_id"] == was)
            & (Agent.keys[0]["used"] == was_used)
            & (Agent.status != AgentStatus.RETIRED.value),
        )
        audit_add(
            tx,
            actor=SYSTEM,
            action=Action.AGENT_KEY_ROTATED,
            target=f"agent:{agent_id}",
            detail={"key_id": str(keys[0].key_id), "before": str(was)},
        )
        try:
            tx.commit()
        except TransactionFailed:
            continue
        finally:
            identity_forget(agent_id)
        return
    raise Unavailable("The agent's keys are being changed. Try again.")
