"""What a refusal (4xx) means for the agent. Only the control plane's own error codes decide.

Gateways, firewalls and captive portals answer with 4xx, too. Whatever is no problem document with one of these codes
says nothing about the agent or the request, so the agent repeats the request later.
"""

from __future__ import annotations

MEDIA_TYPE = "application/problem+json"

SIGNATURE_EXPIRED = "signature_expired"

AGENT_RETIRED = "agent_retired"
KEY_UNKNOWN = "key_unknown"
IDENTITY_IN_USE = "identity_in_use"
# These are about the agent as a whole. Heartbeats decide what follows; the other requests are repeated meanwhile.
ABOUT_AGENT = frozenset({AGENT_RETIRED, KEY_UNKNOWN, IDENTITY_IN_USE})

# These are about one request: a repetition would be refused again.
ABOUT_REQUEST = frozenset(
    {
        "already_enrolled",
        "bad_request",
        "conflict",
        "definition_invalid",
        "enrolment_token_expired",
        "enrolment_token_invalid",
        "enrolment_token_used",
        "invalid_input",
        "job_finished",
        "job_moved",
        "job_not_found",
        "job_state",
        "log_chunk_conflict",
        "log_chunk_too_large",
        "malformed_json",
        "stale_attempt",
        "too_large",
        "unprocessable",
    }
)

# These refuse what the repository's pipeline file says, so the job fails.
ABOUT_DEFINITION = frozenset({"definition_invalid", "invalid_input", "malformed_json", "too_large"})
