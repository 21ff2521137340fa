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
    ADDRESS_TOO_LONG = "address_too_long", "The path and the query are longer than the server accepts."
    HEADERS_TOO_LARGE = "headers_too_large", "All headers together are larger than the server accepts."
    RANGE_NOT_SATISFIABLE = (
        "range_not_satisfiable",
        "The Range header begins after the end. Content-Range has the size.",
    )
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
    IDENTITY_TAKEN = "identity_taken", "The account at the provider signs in another user."
    IDENTITY_NOT_FOUND = "identity_not_found", "The user does not sign in this way."
    INVITATION_INVALID = (
        "invitation_invalid",
        "The invitation is unknown, used, revoked or replaced. Ask for a new one.",
    )
    INVITATION_EXPIRED = "invitation_expired", "The invitation has expired. Ask for a new one."
    LAST_ADMIN = "last_admin", "No other active admin would remain. Make another user an admin first."
    LAST_WAY_IN = "last_way_in", "The user could not sign in any more. Connect another account first."
    OWN_ACCOUNT = "own_account", "Users cannot disable, demote or delete themselves."
    TOO_MANY_IDENTITIES = "too_many_identities", "The user has as many connected accounts as are allowed."
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
    PROVIDER_SCOPE_MISSING = "provider_scope_missing", "The access token lacks a scope. Ask the provider for it."
    PROVIDER_UNAVAILABLE = "provider_unavailable", "The provider does not respond. Try again."
    OAUTH_CODE = "oauth_code", "The provider sent no authorization code. Start the sign-in again."
    AUTHORIZATION_PENDING = "authorization_pending", "The user has not decided yet. Ask again after `interval` seconds."
    ACCESS_DENIED = "access_denied", "The user has denied what the program asks for."
    DEVICE_CODE_INVALID = "device_code_invalid", "The code of the program is unknown, used or expired. Begin again."
    OAUTH_DENIED = "oauth_denied", "The user denied access at the provider."
    OAUTH_STATE = "oauth_state", "The sign-in is too old or was started elsewhere. Start it again."
    # The audit trail.
    HOLD_NOT_FOUND = "hold_not_found", "No legal hold has this id."
    TOO_MANY_HOLDS = "too_many_holds", "There are as many legal holds as are allowed. Release one first."
    # Connections to providers of repositories.
    CONNECTION_IN_USE = "connection_in_use", "Pipelines are bound to the connection. Unbind or delete them first."
    CONNECTION_NOT_FOUND = "connection_not_found", "No connection has this id."
    DELIVERY_NOT_FOUND = "delivery_not_found", "The connection has got no such event in the last 30 days."
    DELIVERY_UNREADABLE = "delivery_unreadable", "Nothing of the event is stored. Let the provider send it again."
    TOO_MANY_CONNECTIONS = "too_many_connections", "There are as many connections as are allowed. Delete one first."
    SOURCE_REFUSED = (
        "source_refused",
        "GitHub, GitLab or another provider does not allow what the request needs. `detail` has its answer.",
    )
    # Agents.
    EVENT_NOT_FOUND = "event_not_found", "No audit event has this id."
    EVENT_NOT_SEALED = "event_not_sealed", "The audit event is too new to be sealed. Try again in a few minutes."
    AGENT_NOT_FOUND = "agent_not_found", "No agent has this id."
    AGENT_RETIRED = "agent_retired", "The agent is retired for good. Enrol the machine again."
    AGENT_STATUS = "agent_status", "The agent's status does not allow this change."
    ENROLMENT_BEYOND_TOKEN = "enrolment_beyond_token", "The enrolment token allows less. `errors` says what it allows."
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
    RUN_NOT_FOUND = "run_not_found", "No run has this id."
    RUN_NOT_OF_FORK = "run_not_of_fork", "The run is not for a pull request of a fork, so there is nothing to let."
    RUN_FINISHED = "run_finished", "The run has ended already."
    RUN_NOTHING_TO_RETRY = "run_nothing_to_retry", "No job of the run can be run again now."
    JOB_FINISHED = "job_finished", "The job has ended already."
    JOB_NOT_FINISHED = "job_not_finished", "The job has not ended yet."
    JOB_JUST_RETRIED = "job_just_retried", "Another request has run this job again at the same moment. See that job."
    JOB_STATE = "job_state", "The job's status does not allow this."
    JOB_MOVED = "job_moved", "The job now waits for an agent with other labels."
    JOB_TOO_LARGE = "job_too_large", "The job's definition and variables are too large. Shorten them."
    TOO_MANY_LABEL_SETS = (
        "too_many_label_sets",
        "Jobs wait under too many combinations of labels. Use fewer, or wait until some have started.",
    )
    STALE_ATTEMPT = "stale_attempt", "The attempt has ended or belongs to another agent. Stop it."
    ARCHIVE_TOO_LARGE = "archive_too_large", "The artifact or cache has more bytes than the control plane takes."
    ARTIFACT_EXISTS = "artifact_exists", "The attempt has an artifact of this name with other content."
    ARTIFACT_NOT_FOUND = "artifact_not_found", "No artifact has this id, or it has expired or was deleted."
    CACHE_NOT_FOUND = "cache_not_found", "The attempt sends no cache with this id."
    TOO_MANY_ARTIFACTS = "too_many_artifacts", "The attempt has as many artifacts or caches as are allowed."
    UPLOAD_INCOMPLETE = "upload_incomplete", "Parts of the archive are missing. Ask which, and send them."
    ZIP_TOO_LARGE = "zip_too_large", "The artifacts are too large, or too many, for one zip. Download each."
    LOG_NOT_ARCHIVED = "log_not_archived", "The log is too large to download until it is archived. Read it in parts."
    LOG_NOT_FOUND = "log_not_found", "The job has no such attempt or step, or its log is no longer in storage."
    LOG_CHUNK_CONFLICT = "log_chunk_conflict", "The log chunk is stored with other content. Go on with the next chunk."
    LOG_CHUNK_TOO_LARGE = "log_chunk_too_large", "The log chunk is larger than 100,000 bytes."
    REPORT_CONFLICT = "report_conflict", "The report is stored with other content. Go on with the next report."
    REPORT_INVALID = "report_invalid", "The test report or coverage cannot be read. `detail` says why."
    REPORT_TOO_LARGE = "report_too_large", "The report is larger than 20 MB, or than 4 MB as sent."
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use", "A request with this Idempotency-Key is being processed."
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", "The Idempotency-Key was used for other content. Send a new key."
    SCHEDULE_NOT_FOUND = "schedule_not_found", "No schedule has this id."
    TOO_MANY_SCHEDULES = "too_many_schedules", "The pipeline has as many schedules as are allowed. Delete one."
    # Deployments.
    APPROVALS_COMPLETE = "approvals_complete", "The deployment has all approvals that it needs."
    DEPLOYMENT_NOT_FOUND = "deployment_not_found", "No deployment has this id."
    DEPLOYMENT_STATE = "deployment_state", "The deployment's status does not allow this."
    ENVIRONMENT_NOT_FOUND = "environment_not_found", "No environment has this name, or it was deleted."
    NO_APPROVAL_NEEDED = "no_approval_needed", "The environment asks for no approvals. Cancel the job to stop it."
    NOTHING_TO_PUT_BACK = "nothing_to_put_back", "No other deployment of the pipeline to the environment was good."
    TOO_MANY_ENVIRONMENTS = "too_many_environments", "There are as many environments as are allowed. Delete one."
    # Secrets.
    NOTIFICATION_TARGET_NOT_FOUND = "notification_target_not_found", "No notification target has this id."
    NOTIFICATION_RULE_NOT_FOUND = "notification_rule_not_found", "No notification rule has this id."
    NOTIFICATION_DELIVERY_NOT_FOUND = "notification_delivery_not_found", "No delivery has this id, or it has expired."
    TOO_MANY_NOTIFICATION_TARGETS = (
        "too_many_notification_targets",
        "There are as many notification targets as are allowed. Delete one.",
    )
    TOO_MANY_NOTIFICATION_RULES = (
        "too_many_notification_rules",
        "There are as many notification rules as are allowed. Delete one.",
    )
    NOT_A_WEBHOOK = "not_a_webhook", "Only a webhook has a secret that signs its messages."
    OUTBOX_ITEM_NOT_FOUND = "outbox_item_not_found", "The list of failed items has none with this id."
    SECRET_NOT_FOUND = "secret_not_found", "No secret has this id, or it has no such version."
    SECRET_VERSION_ENDED = "secret_version_ended", "The version of the secret has no value any more."
    SECRETS_DELIVERED = "secrets_delivered", "The attempt has got its secrets already, under another key."
    SECRETS_MISSING = "secrets_missing", "The job names secrets that it cannot get. `detail` says which, and why."
    ENVIRONMENT_FORBIDDEN = "environment_forbidden", "The agent may not deploy to the environment of the job."
    IDENTITY_TOKEN_TOO_LONG = "identity_token_too_long", "The names in the identity token are too long to be signed."
    TOO_MANY_IDENTITY_TOKENS = "too_many_identity_tokens", "The attempt has as many identity tokens as are allowed."
    ROTATION_IN_PROGRESS = "rotation_in_progress", "The secret is being rotated. Wait until that has ended."
    ROTATION_NOT_CONFIGURED = "rotation_not_configured", "The secret has no rotator. An admin configures one."
    ROTATION_NOT_FOUND = "rotation_not_found", "No rotation has this id."
    ROTATION_STATE = "rotation_state", "The state of the rotation does not allow this."
