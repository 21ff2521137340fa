"""Encrypting agents' keys under the key that encrypts now, after that key was replaced."""

from collections.abc import Callable

from apps.agents.models import Agent
from apps.agents.selectors import fleet_counts, key_context
from apps.agents.selectors.agents import agents_by_region
from controlplane.lib.envelope import decrypt, encrypt, is_current
from controlplane.nosql.connection import ConditionFailed


def agent_keys_rewrap(*, progress: Callable[[str], None]) -> int:
    """Encrypt all agents' keys anew that another key has encrypted. Returns how many there were.

    It may be stopped at any time and run again: what is done is not done again. `progress` gets the name of each agent
    that is done. Raises DecryptionFailed for what cannot be decrypted, and Unavailable.
    """
    count = 0
    for page in agents_by_region(sorted(fleet_counts())):
        for listed in page:
            agent = Agent.find(listed.agent_id)
            if agent is not None:
                count += sum(_rewrap(agent, number) for number in range(len(agent.keys)))
                progress(str(agent.name))
    return count


def _rewrap(agent: Agent, number: int) -> bool:
    key = agent.keys[number]
    if is_current(key.encrypted):
        return False
    context = key_context(str(agent.agent_id), str(key.key_id))
    fresh = encrypt(decrypt(key.encrypted, context=context), context=context)
    place = Agent.keys[number]["encrypted"]
    try:
        Agent(agent.agent_id).update([place.set(fresh)], condition=place == key.encrypted)
    except ConditionFailed:
        # The key was replaced meanwhile. What is new is encrypted by the key of now.
        return False
    return True
