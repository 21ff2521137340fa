"""The configuration that an agent fetches."""

from apps.agents.states import MAX_SLOTS
from controlplane.http.fields import ListOf, Object, Text, WholeNumber, nullable

ENDPOINTS = Object(
    "Endpoints",
    "The paths of the agent's other requests, below the address at which it asks for this. {job_id}, {attempt}, "
    "{sequence} and {number} are to be filled in.",
    {name: Text() for name in ("heartbeat", "start", "definition", "log", "report", "finish")},
)

AGENT_CONFIG = Object(
    "AgentConfig",
    "The configuration of an agent.",
    {
        "agent_id": Text(),
        "key_id": Text(about="The newest of the agent's keys: sign with this one."),
        "workload_identity_secret": nullable(Text(about="That key in base64 until the agent has used it, then null.")),
        "deployment_targets": ListOf(Text(), about="What its jobs may deploy to."),
        "schedule_interval_seconds": WholeNumber(
            1, about="How often an idle agent asks for work, give or take a fifth; sooner while jobs wait."
        ),
        "config_version": WholeNumber(),
        "slots": WholeNumber(1, MAX_SLOTS),
        "labels": ListOf(Text()),
        "endpoints": ENDPOINTS,
    },
)
