"""Agents that fetch their keys and sign with them, below HTTP."""

from dataclasses import dataclass, field
from datetime import timedelta

from apps.agents.models import Agent
from apps.agents.selectors import identity_forget, keys_alive
from apps.agents.services import agent_enrol, agent_key_mark_used, enrolment_token_create
from controlplane.lib import clock
from tests.conftest import ADMIN


@dataclass
class Fleet:
    """`holds` is the id of the key that each agent has, by the agent's id. Those of `silent` fetch and sign nothing."""

    holds: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    @classmethod
    def enrolled(cls, number: int) -> "Fleet":
        _, token = enrolment_token_create(uses=number, expires_at=clock.now() + timedelta(days=1), actor=ADMIN)
        fleet = cls()
        for count in range(number):
            identity = agent_enrol(token=token, name=f"build-{count}", region="eu", labels=["linux"], slots=1)
            fleet.holds[identity.agent_id] = identity.key_id
        fleet.poll()
        return fleet

    def poll(self) -> None:
        """Each agent signs with the key that it has, which must never be refused, and takes what it is given."""
        for agent_id, held in self.holds.items():
            if agent_id in self.silent:
                continue
            identity_forget(agent_id)
            agent = Agent.find(agent_id)
            assert agent is not None
            accepted = {key.key_id: key for key in keys_alive(agent)}
            assert held in accepted, f"the agent signs with {held}, and {sorted(accepted)} are accepted"
            if not accepted[held].used:
                agent_key_mark_used(agent_id=agent_id, key_id=held)
            given = keys_alive(agent)[0]
            if not given.used:
                self.holds[agent_id] = given.key_id

    def newest(self) -> dict[str, str]:
        """The id of the newest key of each agent."""
        return {str(agent.agent_id): str(agent.keys[0].key_id) for agent in Agent.find_many(self.holds)}
