"""Reading connections. All reads are consistent."""

import re

from apps.sources.models import SPACE, Connection
from apps.sources.states import ProviderName
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotFound

__all__ = ["CONNECTION_ID", "Connection", "connection_find", "connection_get", "connection_list", "webhook_path"]

CONNECTION_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def connection_find(connection_id: str) -> Connection | None:
    """The connection with this id, or None."""
    return Connection.find(SPACE, connection_id) if CONNECTION_ID.fullmatch(connection_id) else None


def connection_get(connection_id: str) -> Connection:
    """The connection with this id. Raises NotFound with the code ``connection_not_found``."""
    connection = connection_find(connection_id)
    if connection is None:
        raise NotFound(
            f"There is no connection with the id “{connection_id[:63]}”.", code=ErrorCode.CONNECTION_NOT_FOUND
        )
    return connection


def connection_list(provider: ProviderName | None = None) -> list[Connection]:
    """All connections by their ids, or those of a provider: there is a limit to them. One query."""
    found = Connection.query(SPACE, consistent_read=True)
    return [connection for connection in found if provider is None or connection.provider == provider]


def webhook_path(connection: Connection) -> str:
    """Where the provider sends webhooks to: a GitHub App has one address for all of its repositories."""
    own = "" if connection.provider == ProviderName.GITHUB and connection.app_id else f"/{connection.connection_id}"
    return f"/webhooks/{connection.provider}{own}"
