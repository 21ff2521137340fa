"""Workload identity: agents sign their requests with their own keys (RFC 9421)."""

import re
import secrets

from django.http import HttpRequest

from apps.agents.selectors import AgentIdentity, IdentityKey, identity_get
from apps.agents.services import agent_key_mark_used
from apps.agents.states import AgentStatus
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Forbidden, NotAuthenticated
from controlplane.lib.frozen import frozen
from controlplane.lib.ids import ID_PATTERN
from controlplane.lib.signatures import (
    Signature,
    digest_require,
    signature_read,
    signature_require,
    signature_verify,
)
from controlplane.lib.work import actor_note

# A key's id begins with its agent's id, so that finding the key costs one read at most.
_KEY_ID = re.compile(rf"({ID_PATTERN})\.[0-9a-f]{{8}}")
# Gateways rewrite other characters, which would break the signature.
_PATH = re.compile(r"[A-Za-z0-9/_.-]+")

# Used when there is no key, so that an unknown agent is refused as slowly as a wrong signature.
_UNKNOWN_KEY = secrets.token_bytes(32)


@frozen
class SignedRequest:
    """A verified request: the agent that signed it (as of the last minute), when, and with which nonce."""

    agent_id: str
    created: int
    nonce: str
    agent: AgentIdentity


def signed_agent(request: HttpRequest, agent_id: str, *, marks_key_used: bool = True) -> SignedRequest:
    """Verify that the agent of the path has signed the request. This usually costs no read.

    The first request that an agent signs with a key marks the key used, unless `marks_key_used` is False.

    Raises NotAuthenticated: ``signature_missing``, ``signature_invalid``, ``signature_expired``, ``key_unknown``,
    ``digest_mismatch``; Forbidden: ``wrong_agent`` when the key is another agent's, ``agent_retired``.
    """
    headers = request.headers
    signature = signature_read(headers.get("Signature-Input", ""), headers.get("Signature", ""))
    created, key_id, nonce = signature_require(signature)
    agent, key = _signer(key_id)
    _verify(request, signature, key.secret if key else _UNKNOWN_KEY, known=key is not None)
    digest_require(headers.get("Content-Digest", ""), request.body)
    if agent is not None and key is not None:
        actor_note(Actor("agent", agent.agent_id, agent.name))
    if agent is None or key is None or agent.agent_id != agent_id:
        raise Forbidden(
            "The path is another agent's. Sign with the key of the agent in the path.", code=ErrorCode.WRONG_AGENT
        )
    if agent.status == AgentStatus.RETIRED:
        raise Forbidden(
            "This agent is retired. Enrol the machine again with a new token.", code=ErrorCode.AGENT_RETIRED
        )
    if marks_key_used and not key.used:
        agent_key_mark_used(agent_id=agent_id, key_id=key_id)
    return SignedRequest(agent_id, created, nonce, agent)


def _signer(key_id: str) -> tuple[AgentIdentity | None, IdentityKey | None]:
    match = _KEY_ID.fullmatch(key_id)
    agent = identity_get(match[1], key_id) if match else None
    return agent, agent.key(key_id) if agent else None


def _verify(request: HttpRequest, signature: Signature, key: bytes, *, known: bool) -> None:
    path = signed_path(request)

    def component(name: str) -> str | None:
        if name == "@method":
            return request.method
        if name == "@path":
            return path
        return None if name.startswith("@") else request.headers.get(name)

    try:
        signature_verify(signature, key=key, component=component)
    except NotAuthenticated:
        if known:
            raise
        raise NotAuthenticated(
            "There is no such key. Enrol the machine again with a new token.", code=ErrorCode.KEY_UNKNOWN
        ) from None


def signed_path(request: HttpRequest) -> str:
    """The path as the agent sent it, a gateway's stage included.

    Raises NotAuthenticated (``signature_invalid``) for a path or a query that a gateway might rewrite.
    """
    path = request.path
    if request.META.get("QUERY_STRING") or not _PATH.fullmatch(path):
        raise NotAuthenticated(
            "A signed path must have only letters, digits and / _ . - and no query.", code=ErrorCode.SIGNATURE_INVALID
        )
    return path
