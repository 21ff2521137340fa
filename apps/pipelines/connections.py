"""Whether there is a connection that a pipeline names.

`apps.sources` has the connections, and lies above this app. So the start of the application says how one is found.
"""

from collections.abc import Callable


def _not_started(connection_id: str) -> bool:
    raise RuntimeError(f"The connection {connection_id} cannot be looked up: Django has not started.")


_exists: Callable[[str], bool] = _not_started


def connections_find_by(exists: Callable[[str], bool]) -> None:
    """Set what says whether there is a connection with an id. It may raise Unavailable."""
    global _exists
    _exists = exists


def connection_exists(connection_id: str) -> bool:
    """Whether there is a connection with this id. One read. Raises Unavailable."""
    return _exists(connection_id)
