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

# A control plane that is older than this agent does not know the address.
NOT_FOUND = "not_found"

# The enrolment token allows less than the agent's options ask for.
ENROLMENT_BEYOND_TOKEN = "enrolment_beyond_token"

# The job names secrets that it cannot get, so it fails. The detail says which, and why.
SECRETS_MISSING = "secrets_missing"

# These are about one request: a repetition would be refused again.
ABOUT_REQUEST = frozenset(
    {
        "already_enrolled",
        "archive_too_large",
        "artifact_exists",
        "artifact_not_found",
        "bad_request",
        "cache_not_found",
        "conflict",
        "definition_invalid",
        ENROLMENT_BEYOND_TOKEN,
        "enrolment_token_expired",
        "enrolment_token_invalid",
        "enrolment_token_used",
        "environment_forbidden",
        "identity_token_too_long",
        "invalid_input",
        "job_finished",
        "job_moved",
        "job_not_found",
        "job_state",
        "log_chunk_conflict",
        "log_chunk_too_large",
        "malformed_json",
        "report_conflict",
        "report_invalid",
        "report_too_large",
        "secrets_delivered",
        SECRETS_MISSING,
        "stale_attempt",
        "too_large",
        "too_many_artifacts",
        "too_many_identity_tokens",
        "too_many_label_sets",
        "unprocessable",
        "upload_incomplete",
    }
)

# These say that an attempt is over, or that another agent has its job.
ABOUT_ATTEMPT = frozenset({"job_finished", "job_moved", "job_not_found", "job_state", "stale_attempt"})

# These refuse what the repository's pipeline file says, so the job fails.
ABOUT_DEFINITION = frozenset({"definition_invalid", "invalid_input", "malformed_json", "too_large"})
