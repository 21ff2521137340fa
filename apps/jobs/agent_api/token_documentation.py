"""The description of the endpoint for identity tokens, for the API document."""

from apps.jobs.serializers import identity_tokens
from controlplane.http.openapi import AGENT, Json, problems

TOKEN: Json = {
    "operation_id": "attempt_token",
    "request": identity_tokens.TOKEN,
    "responses": {200: identity_tokens.TOKEN_ANSWER, **problems(409, 422, 429)},
    "security": AGENT,
}
