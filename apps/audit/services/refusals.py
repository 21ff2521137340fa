"""Recording what was refused to someone who is signed in."""

import threading
from collections.abc import Mapping
from typing import Any

from cachetools import TTLCache

from apps.audit.actions import Action
from apps.audit.services import audit_add
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.nosql.transaction import Transaction

# A principal's refusals of one kind are recorded once in so many seconds by each process.
EVERY_SECONDS = 60
# Of more principals and kinds than this, the least recent are forgotten.
_MOST = 10_000
# A client chooses its method, and each one would be another kind.
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})

_recorded: TTLCache[tuple[str, ...], bool] = TTLCache(_MOST, EVERY_SECONDS, timer=clock.epoch)
_lock = threading.Lock()


def refusal_record(
    *, actor: Actor, method: str | None, route: str, arguments: Mapping[str, Any], path: str, code: str | None
) -> None:
    """Record that a request was refused with 403: once a minute for each principal, method and route.

    `route` is the pattern of the address, `arguments` are the values in it. So a client cannot flood the trail. Raises
    Unavailable if it cannot be recorded.
    """
    method = method if method in _METHODS else "another method"
    kind = (actor.kind, actor.id, method, route)
    with _lock:
        if kind in _recorded:
            return
        _recorded[kind] = True
    tx = Transaction()
    audit_add(
        tx,
        actor=actor,
        action=Action.ACCESS_REFUSED,
        target=_target(route, arguments),
        result="refused",
        detail={"method": method, "path": path, "code": code},
    )
    try:
        tx.commit()
    except BaseException:
        with _lock:
            _recorded.pop(kind, None)
        raise


def refusals_forget() -> None:
    """For tests: record the next refusal of each kind again."""
    with _lock:
        _recorded.clear()


def _target(route: str, arguments: Mapping[str, Any]) -> str:
    """What the address is about: ``job:01ka…`` for ``/jobs/{job_id}/cancel``, else the route itself."""
    for name in reversed(list(arguments)):
        if name.endswith("_id"):
            return f"{name.removesuffix('_id')}:{arguments[name]}"
    return f"route:{route}"
