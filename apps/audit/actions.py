"""The vocabulary of the audit trail: everything that is recorded, in one place."""

from enum import StrEnum


class Action(StrEnum):
    """What was done, as ``subject.past tense``. A value that was ever written is never renamed or reused."""

    AGENT_ENROLLED = "agent.enrolled"
    AGENT_KEY_ROTATED = "agent.key_rotated"
    AGENT_STATUS_CHANGED = "agent.status_changed"
    API_TOKEN_CREATED = "api_token.created"
    API_TOKEN_REVOKED = "api_token.revoked"
    ENROLMENT_TOKEN_CREATED = "enrolment_token.created"
    JOB_CANCELLED = "job.cancelled"
    JOB_CANCEL_REQUESTED = "job.cancel_requested"
    JOB_CLAIMED = "job.claimed"
    JOB_CREATED = "job.created"
    JOB_DEFINED = "job.defined"
    JOB_FINISHED = "job.finished"
    JOB_REQUEUED = "job.requeued"
    JOB_RETRIED = "job.retried"
    JOB_STARTED = "job.started"
    PIPELINE_DELETED = "pipeline.deleted"
    PIPELINE_SAVED = "pipeline.saved"
    USER_CREATED = "user.created"
    USER_DISABLED = "user.disabled"
    USER_SIGNED_IN = "user.signed_in"
    USER_SIGNED_OUT = "user.signed_out"
    USER_SIGN_IN_FAILED = "user.sign_in_failed"
