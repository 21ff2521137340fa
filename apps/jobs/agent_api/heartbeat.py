"""``POST /agents/{agent_id}/heartbeat``"""

from typing import Any

from django.http import HttpRequest

from apps.agents.authentication import SignedRequest
from apps.agents.serializers import heartbeat_report
from apps.agents.services import heartbeat_record
from apps.agents.states import AgentStatus
from apps.jobs.agent_api.requests import AGENT_BODY_LIMIT, agent_actor, agent_endpoint
from apps.jobs.services import work_dispatch
from controlplane.http.body_limits import body_limit
from controlplane.http.documented import documented
from controlplane.http.json_body import json_body


@documented("post", "apps.jobs.agent_api.documentation.HEARTBEAT")
@body_limit(AGENT_BODY_LIMIT)
@agent_endpoint
def heartbeat(request: HttpRequest, signed: SignedRequest) -> dict[str, Any]:
    """Report the agent's state and its running attempts. The answer contains new attempts and commands."""
    report = heartbeat_report(json_body(request), agent_id=signed.agent_id)
    result = heartbeat_record(agent_id=signed.agent_id, report=report, created=signed.created, nonce=signed.nonce)
    dispatch = work_dispatch(
        agent=agent_actor(signed),
        labels=signed.agent.labels_offered,
        leases=result.heartbeat.leases,
        running=report["running"],
        free_slots=report["free_slots"],
        slots=result.heartbeat.lease_limit(signed.agent.slots),
        fresh=result.fresh,
        takes_work=result.fresh and result.heartbeat.status == AgentStatus.HEALTHY,
    )
    return {
        "status": result.heartbeat.status,
        "next_check_interval": dispatch.next_check_interval,
        "config_version": signed.agent.config_version,
        "jobs": [assignment.as_dict() for assignment in dispatch.assignments],
        "wishes": [command.as_dict() for command in dispatch.commands],
    }
