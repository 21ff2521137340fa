"""Every error code that the API answers with, and what it means.

A code is stable: programs compare it, so a value is never renamed or reused. ``/docs`` and the API document list them.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The member `code` of problem details (RFC 9457). `meaning` says what happened and what the client can do."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "ErrorCode":
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    # Any endpoint.
    BAD_REQUEST = "bad_request", "The server cannot process the request."
    INVALID_INPUT = "invalid_input", "The request breaks a rule. `errors` names the fields."
    MALFORMED_JSON = "malformed_json", "The body is not a JSON object."
    INCOMPLETE_BODY = "incomplete_body", "The body did not arrive completely. Send the request again."
    INVALID_CONTENT_LENGTH = "invalid_content_length", "The Content-Length header is not a number of bytes."
    LENGTH_REQUIRED = "length_required", "The request has a body without a Content-Length header."
    INVALID_CURSOR = "invalid_cursor", "The cursor belongs to another list. Start without a cursor."
    NOT_FOUND = "not_found", "The server has nothing at this address."
    METHOD_NOT_ALLOWED = "method_not_allowed", "The endpoint does not support this HTTP method."
    NOT_ACCEPTABLE = "not_acceptable", "The endpoint cannot answer in a format of the Accept header."
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", "The Content-Type header must be application/json."
    TOO_LARGE = "too_large", "The body is larger than the endpoint accepts."
    CONFLICT = "conflict", "The object is not in a state that allows this."
    CHANGED_MEANWHILE = "changed_meanwhile", "Another user changed the object. Load it again and repeat the change."
    NAME_TAKEN = "name_taken", "An object of this name exists already."
    UNPROCESSABLE = "unprocessable", "The request is well-formed, but the server cannot process its content."
    TOO_MANY_REQUESTS = "too_many_requests", "A rate limit is exceeded. Wait for the seconds in Retry-After."
    INTERNAL_ERROR = "internal_error", "The server failed. Report the `request_id` to its operator."
    UNAVAILABLE = "unavailable", "The database or AWS does not respond. Wait for the seconds in Retry-After."
    # Users, sessions and API tokens.
    NOT_AUTHENTICATED = "not_authenticated", "The request has no credentials, or they are not valid. Sign in again."
    FORBIDDEN = "forbidden", "The user or API token lacks the permission."
    CSRF_FAILED = "csrf_failed", "The form is too old or came from another site. Load the page again."
    ACCOUNT_DISABLED = "account_disabled", "An admin has disabled the account."
    USER_NOT_FOUND = "user_not_found", "No user has this id."
    USER_MISMATCH = "user_mismatch", "The provider vouches for another user than `user_id`."
    EMAIL_TAKEN = "email_taken", "Another user has this e-mail address."
    EMAIL_UNVERIFIED = "email_unverified", "The provider has not verified the e-mail address. Verify it there."
    OWN_ACCOUNT = "own_account", "Users cannot disable or demote themselves."
    NOT_ALLOWED = "not_allowed", "The account may not sign in here. Ask an admin."
    PASSWORD_SIGN_IN_OFF = "password_sign_in_off", "Sign-in by password is off. Sign in by a provider."
    SESSION_NEEDED = "session_needed", "The endpoint needs a session, not an API token."
    SESSION_INVALID = "session_invalid", "The session has ended. Sign in again."
    SESSION_NOT_FOUND = "session_not_found", "The user has no such session."
    TOKEN_INVALID = "token_invalid", "The API token is unknown or revoked."
    TOKEN_EXPIRED = "token_expired", "The API token has expired. Create a new one."
    API_TOKEN_NOT_FOUND = "api_token_not_found", "No API token has this id."
    TOO_MANY_TOKENS = "too_many_tokens", "The user has as many API tokens as are allowed. Revoke one first."
    # Sign-in by a provider.
    PROVIDER_UNKNOWN = "provider_unknown", "This provider is not configured."
    PROVIDER_TOKEN_INVALID = "provider_token_invalid", "The provider does not accept the access token."
    PROVIDER_REFUSED = "provider_refused", "The provider refused the sign-in. Start again."
    PROVIDER_ANSWER = "provider_answer", "The provider's response is incomplete. Try again."
    PROVIDER_UNAVAILABLE = "provider_unavailable", "The provider does not respond. Try again."
    OAUTH_CODE = "oauth_code", "The provider sent no authorization code. Start the sign-in again."
    OAUTH_DENIED = "oauth_denied", "The user denied access at the provider."
    OAUTH_STATE = "oauth_state", "The sign-in is too old or was started elsewhere. Start it again."
    # Agents.
    AGENT_NOT_FOUND = "agent_not_found", "No agent has this id."
    AGENT_RETIRED = "agent_retired", "The agent is retired for good. Enrol the machine again."
    AGENT_STATUS = "agent_status", "The agent's status does not allow this change."
    ENROLMENT_TOKEN_INVALID = "enrolment_token_invalid", "The enrolment token is unknown or revoked."
    ENROLMENT_TOKEN_EXPIRED = "enrolment_token_expired", "The enrolment token has expired. Create a new one."
    ENROLMENT_TOKEN_USED = "enrolment_token_used", "The enrolment token has no uses left. Create a new one."
    ALREADY_ENROLLED = "already_enrolled", "The machine is enrolled and has used its key. Enrol it with a new request."
    SIGNATURE_MISSING = "signature_missing", "The request has no signature (RFC 9421)."
    SIGNATURE_INVALID = "signature_invalid", "The signature does not match the request."
    SIGNATURE_EXPIRED = "signature_expired", "The signature's time is off by more than 300 s. Check the clock."
    KEY_UNKNOWN = "key_unknown", "The server does not know the signature's key."
    DIGEST_MISMATCH = "digest_mismatch", "The Content-Digest header does not match the body."
    WRONG_AGENT = "wrong_agent", "The key belongs to another agent than the path names."
    HEARTBEAT_OUT_OF_ORDER = "heartbeat_out_of_order", "The server has processed a later heartbeat of this agent."
    IDENTITY_IN_USE = "identity_in_use", "Another machine uses this agent's identity. Enrol the copy of it anew."
    # Pipelines and jobs.
    PIPELINE_NOT_FOUND = "pipeline_not_found", "No pipeline has this name."
    PIPELINE_BUSY = "pipeline_busy", "Others keep saving this pipeline. Load it again and repeat the change."
    DEFINITION_INVALID = "definition_invalid", "The pipeline definition has mistakes. `errors` lists them by line."
    INVALID_REF = "invalid_ref", "Git would not accept this ref."
    INVALID_REPOSITORY = "invalid_repository", "Agents cannot clone from this address."
    REPOSITORY_NOT_ALLOWED = "repository_not_allowed", "The control plane's ALLOWED_REPOSITORIES lacks this repository."
    JOB_NOT_FOUND = "job_not_found", "No job has this id."
    JOB_FINISHED = "job_finished", "The job has ended already."
    JOB_NOT_FINISHED = "job_not_finished", "The job has not ended yet."
    JOB_STATE = "job_state", "The job's status does not allow this."
    JOB_MOVED = "job_moved", "The job now waits for an agent with other labels."
    JOB_TOO_LARGE = "job_too_large", "The job's definition and variables are too large. Shorten them."
    TOO_MANY_LABEL_SETS = (
        "too_many_label_sets",
        "Jobs wait under too many combinations of labels. Use fewer, or wait until some have started.",
    )
    STALE_ATTEMPT = "stale_attempt", "The attempt has ended or belongs to another agent. Stop it."
    LOG_NOT_FOUND = "log_not_found", "The job's log is no longer in storage."
    LOG_CHUNK_CONFLICT = "log_chunk_conflict", "The log chunk is stored with other content. Go on with the next chunk."
    LOG_CHUNK_TOO_LARGE = "log_chunk_too_large", "The log chunk is larger than 100,000 bytes."
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use", "A request with this Idempotency-Key is being processed."
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", "The Idempotency-Key was used for other content. Send a new key."
