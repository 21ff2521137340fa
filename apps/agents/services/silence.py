"""Marking agents that send no heartbeats. The sweep does it: no request of an agent needs this module."""

import logging
import math
from datetime import datetime

from apps.agents.models import Heartbeat
from apps.agents.selectors import identity_forget
from apps.agents.services.lifecycle import status_move
from apps.agents.services.portions import fleet_portion
from apps.agents.states import AgentStatus, status_after_silence
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.nosql.transaction import Transaction, TransactionFailed

logger = logging.getLogger(__name__)


def agents_mark_silent(*, heard_since: datetime | None = None, seconds: float = math.inf) -> int:
    """Mark agents unhealthy after 45 seconds without a heartbeat, and dead after 300. Returns how many were marked.

    Their silence counts from `heard_since` on: before that, no agent could be heard. An agent that sends a heartbeat
    meanwhile, or that another sweep has marked, is left as it is. The call takes at most so many seconds, and the next
    one goes on where it stopped.
    """
    marked = 0
    for region, heartbeats in fleet_portion("agents_mark_silent", seconds=seconds):
        for heartbeat in heartbeats:
            heard_at = clock.parse_timestamp(heartbeat.at)
            silence = clock.now() - (max(heard_at, heard_since) if heard_since else heard_at)
            before = AgentStatus(heartbeat.status)
            after = status_after_silence(before, silence.total_seconds())
            if after == before:
                continue
            tx = Transaction()
            status_move(
                tx,
                agent_id=heartbeat.agent_id,
                region=region,
                before=before,
                after=after,
                actor=SYSTEM,
                heartbeat_condition=Heartbeat.at == heartbeat.at,
            )
            try:
                tx.commit()
            except TransactionFailed:
                continue
            identity_forget(heartbeat.agent_id)
            subject = {"agent_id": heartbeat.agent_id, "region": region}
            logger.warning(
                "agent is %s after %.0f s without a heartbeat", after, silence.total_seconds(), extra=subject
            )
            marked += 1
    return marked
