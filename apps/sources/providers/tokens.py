"""The tokens that users give connections."""

from apps.sources.models import Connection
from controlplane.lib.envelope import DecryptionFailed
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Unprocessable


def token_require(connection: Connection) -> str:
    """The token that users gave the connection. Raises Unprocessable if there is none that can be used."""
    try:
        token = connection.secret("token")
    except DecryptionFailed:
        token = None
    if not token:
        message = f"The connection {connection.connection_id} has no token that can be used. Set one."
        raise Unprocessable(message, code=ErrorCode.SOURCE_REFUSED)
    return token
