"""The paths of the agent's requests: those of its configuration, or else those that every control plane has.

The control plane may move its endpoints, but only within its own address: what an agent sends there is signed and may
be secret, so no configuration leads it anywhere else.
"""

from __future__ import annotations

import logging
import re
from typing import Any

logger = logging.getLogger(__name__)

# The placeholders of each path.
_PLACEHOLDERS = {
    "heartbeat": set(),
    "start": {"job_id"},
    "definition": {"job_id"},
    "log": {"job_id", "attempt", "sequence"},
    "report": {"job_id", "attempt", "number"},
    "finish": {"job_id"},
    "artifacts": {"job_id", "attempt"},
    "artifact_complete": {"job_id", "attempt", "upload_id"},
    "artifacts_fetch": {"job_id", "attempt"},
    "cache_save": {"job_id", "attempt"},
    "cache_complete": {"job_id", "attempt", "upload_id"},
    "cache_restore": {"job_id", "attempt"},
    "token": {"job_id"},
    "upload": {"job_id", "attempt"},
}
# Gateways rewrite other characters, and then a signature is not valid any more.
_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+|\{[a-z_]+\}")
_LONGEST = 500


class Endpoints:
    """The paths of one agent's requests, without the path of the control plane's address."""

    def __init__(self, agent_id: str, *, given: Any = None, prefix: str = "") -> None:
        """`given` is the member `endpoints` of a configuration, `prefix` the path of the control plane's address.

        A path that is not valid is logged and not used. A path that is missing is the usual one.
        """
        job = f"/agents/{agent_id}/jobs/{{job_id}}"
        self._paths = {
            "heartbeat": f"/agents/{agent_id}/heartbeat",
            "start": f"{job}/start",
            "definition": f"{job}/definition",
            "log": f"{job}/log/{{attempt}}/{{sequence}}",
            "report": f"{job}/reports/{{attempt}}/{{number}}",
            "finish": f"{job}/finish",
            "artifacts": f"{job}/artifacts/{{attempt}}",
            "artifact_complete": f"{job}/artifacts/{{attempt}}/{{upload_id}}/complete",
            "artifacts_fetch": f"{job}/artifacts/{{attempt}}/fetch",
            "cache_save": f"{job}/caches/{{attempt}}/save",
            "cache_complete": f"{job}/caches/{{attempt}}/{{upload_id}}/complete",
            "cache_restore": f"{job}/caches/{{attempt}}/restore",
            "token": f"{job}/token",
            "upload": f"{job}/upload/{{attempt}}",
        }
        for name, path in given.items() if isinstance(given, dict) else ():
            # A newer control plane may name more.
            if name not in self._paths:
                continue
            if _is_valid(name, path, prefix):
                self._paths[name] = path[len(prefix) :]
            else:
                logger.warning(
                    "the agent does not use %r as its address for %s: it must be a path below %s/ with the usual "
                    "placeholders. It goes on with the usual address",
                    path,
                    name,
                    prefix,
                )

    def path(self, name: str, **values: object) -> str:
        """The path of the request `name`, with these values in place of its placeholders."""
        return self._paths[name].format(**values)


def _is_valid(name: str, path: Any, prefix: str) -> bool:
    if not isinstance(path, str) or len(path) > _LONGEST or not path.startswith(f"{prefix}/"):
        return False
    segments = path[1:].split("/")
    plain = all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments)
    named = [segment[1:-1] for segment in segments if segment.startswith("{")]
    return plain and sorted(named) == sorted(_PLACEHOLDERS[name])
