"""What the API document says about the plain view `session_validate`."""

from apps.accounts.serializers.sessions import SessionValidateSerializer, SessionValiditySerializer
from controlplane.http.openapi import PUBLIC, Json

VALIDATE: Json = {
    "operation_id": "sessions_validate",
    "request": SessionValidateSerializer,
    "responses": SessionValiditySerializer,
    "security": PUBLIC,
}
