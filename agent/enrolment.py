"""Enrol this machine as an agent, once for each state directory."""

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
from agent.refusals import ENROLMENT_BEYOND_TOKEN
from agent.state import StateDirectory

logger = logging.getLogger(__name__)


def enrol(
    plane: ControlPlane, state: StateDirectory, *, token: str, name: str, region: str, labels: list[str], slots: int
) -> Identity:
    """Exchange the token for an identity and save the identity. Retries until the control plane answers.

    The idempotency key is on disk before the request is sent. So a lost answer, or an agent that is killed while it
    waits, does not use up the token. Raises RefusedByControlPlane.
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
        identity = plane.enrol(body, idempotency_key=_idempotency_key(state.enrolment), stop=threading.Event())
    except Refused as error:
        state.enrolment.unlink()
        reason = "; ".join([str(error), *error.field_messages()])
        advice = "Check the token and the options, or create a new token, and start the agent again."
        if error.code == ENROLMENT_BEYOND_TOKEN:
            advice = (
                "Start the agent with options that the token allows (--labels, --region, --slots), "
                "or ask for a token that allows these."
            )
        raise RefusedByControlPlane(f"The control plane refused to enrol this machine ({reason}). {advice}") from error
    identity.save(state.identity)
    state.enrolment.unlink()
    logger.info("the control plane enrolled this machine as agent %s (id %s)", name, identity.agent_id)
    return identity


def _idempotency_key(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["idempotency_key"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        key = secrets.token_urlsafe(24)
        write_private(path, json.dumps({"idempotency_key": key}).encode())
        return key
