"""Becoming an agent: once in the life of a state directory."""

from __future__ import annotations

import json
import logging
import platform
import secrets
import socket
import threading
from pathlib import Path

from agent import VERSION
from agent.client import Refused
from agent.errors import RefusedByControlPlane
from agent.files import write_private
from agent.identity import Identity
from agent.protocol import ControlPlane
from agent.state import StateDirectory

logger = logging.getLogger(__name__)


def enrol(
    plane: ControlPlane, state: StateDirectory, *, token: str, name: str, region: str, labels: list[str], slots: int
) -> Identity:
    """Exchange the token for an identity and keep that. Waits for a control plane that is away.

    The request's key is on disk before the request is made, so that an answer that was lost, or an agent that was
    killed while it waited, does not use the token up. Raises RefusedByControlPlane.
    """
    body = {
        "token": token,
        "name": name,
        "region": region,
        "labels": labels,
        "slots": slots,
        "hostname": socket.gethostname(),
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "version": VERSION,
    }
    try:
        identity = plane.enrol(body, idempotency_key=_request_key(state.enrolment), stop=threading.Event())
    except Refused as error:
        state.enrolment.unlink()
        raise RefusedByControlPlane(f"The control plane refuses to enrol this machine: {error}") from error
    identity.save(state.identity)
    state.enrolment.unlink()
    logger.info("enrolled as %s (%s)", name, identity.agent_id)
    return identity


def _request_key(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["idempotency_key"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        key = secrets.token_urlsafe(24)
        write_private(path, json.dumps({"idempotency_key": key}).encode())
        return key
