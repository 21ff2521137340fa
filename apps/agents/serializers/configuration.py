"""The configuration that an agent fetches."""

from apps.agents.states import MAX_SLOTS
from controlplane.http.fields import ListOf, Object, Text, WholeNumber, nullable

ENDPOINTS = Object(
    "Endpoints",
    "The paths of the agent's other requests, with {job_id}, {attempt} and {sequence} to be filled in.",
    {name: Text() for name in ("heartbeat", "start", "definition", "log", "finish")},
)

AGENT_CONFIG = Object(
    "AgentConfig",
    "The configuration of an agent.",
    {
        "agent_id": Text(),
        "key_id": Text(about="The newest of the agent's keys: sign with this one."),
        "workload_identity_secret": nullable(Text(about="That key in base64 until the agent has used it, then null.")),
        "deployment_targets": ListOf(Text()),
        "schedule_interval_seconds": WholeNumber(1, about="How often an idle agent sends a heartbeat."),
        "config_version": WholeNumber(),
        "slots": WholeNumber(1, MAX_SLOTS),
        "labels": ListOf(Text()),
        "endpoints": ENDPOINTS,
    },
)
