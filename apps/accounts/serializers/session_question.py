"""Checking the request of `session_validate`. A plain function: DRF would take longer than the rest of the request."""

from typing import Any

from controlplane.http.json_body import members_known_require
from controlplane.lib.errors import InvalidInput

# Longer than any token. A text that is no token is the token of no session.
MAX_TOKEN = 200


def session_asked_about(body: dict[str, Any]) -> str:
    """The token in a request's JSON object. Raises InvalidInput that names the member that is wrong."""
    members_known_require(body, ("session_id",))
    token = body.get("session_id")
    if not isinstance(token, str) or not 1 <= len(token) <= MAX_TOKEN:
        raise InvalidInput.field("session_id", f"must have 1 to {MAX_TOKEN} characters")
    return token
