"""Whom a user means by what they type into a search of the audit trail."""

import re

from apps.accounts.selectors import user_by_email
from apps.agents.selectors import agents_named
from controlplane.lib.ids import ID_PATTERN

# As many agents of a name are offered when a search is for one of them.
_NAMESAKES = 5


def actors_meant(text: str) -> list[str]:
    """The actors (``kind:id``) with this e-mail address, or the agents of this name. Up to two reads.

    An agent's id is taken without a look, so that the events of deleted agents are found too.
    """
    if "@" in text:
        user = user_by_email(text)
        return [f"user:{user.user_id}"] if user else []
    if re.fullmatch(ID_PATTERN, text):
        return [f"agent:{text}"]
    return [f"agent:{agent.agent_id}" for agent in agents_named(text, limit=_NAMESAKES)]
