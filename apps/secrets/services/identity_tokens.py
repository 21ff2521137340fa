"""Identity tokens of jobs: JSON Web Tokens that others verify with published keys, so that no cloud key is stored."""

import base64
import json
import re
from contextlib import suppress
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.core.cache import cache

from apps.accounts.services.rate_limits import use_count_add
from apps.audit.actions import Action
from apps.audit.services import audit_add
from apps.secrets.services.identity_claims import CLAIMS as CLAIMS
from apps.secrets.services.identity_claims import JobIdentity as JobIdentity
from apps.secrets.services.identity_claims import token_claims
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import InvalidInput, TooManyRequests, Unprocessable
from controlplane.lib.ids import new_id
from controlplane.lib.signing_keys import SIGNED_MOST, Purpose, signing_key, signing_keys
from controlplane.nosql.transaction import Transaction, TransactionFailed

# Every token costs a signature of KMS. A job needs one for each system, and a new one each quarter of an hour.
MOST_OF_AN_ATTEMPT = 100
MAX_AUDIENCE = 255
AUDIENCE = re.compile(rf"[!-~]{{1,{MAX_AUDIENCE}}}")
AUDIENCE_FORM = f"must be 1 to {MAX_AUDIENCE} visible ASCII characters, such as sts.amazonaws.com"
# Longer than any attempt may run.
_COUNTED_FOR = timedelta(days=2)
# For so long a process refuses an attempt without asking DynamoDB again.
_REFUSED_SECONDS = 300


def identity_token_issue(tx: Transaction, *, agent: Actor, identity: JobIdentity, audience: str, issuer: str) -> str:
    """A token for the attempt. Its audit event and its place under the limit are added to the transaction.

    The caller must not hand the token out before the transaction is committed, and the transaction must require that
    the agent has the attempt. If it fails with the label "limit", `identity_tokens_used_up` gives the error.

    Raises InvalidInput for the audience, TooManyRequests, Unprocessable for a token that is too long to sign, and
    Unavailable when KMS does not answer.
    """
    if not AUDIENCE.fullmatch(audience):
        raise InvalidInput.field("audience", AUDIENCE_FORM)
    if cache.get(_used_up_key(identity)):
        raise identity_tokens_used_up(identity)
    now = clock.now()
    claims = token_claims(identity, issuer=issuer, audience=audience, token_id=new_id(), now=now)
    token, key_id = _signed(claims)
    # A job has too many tokens for their events to be among its own, of which its page reads the newest.
    audit_add(
        tx,
        actor=agent,
        action=Action.IDENTITY_TOKEN_ISSUED,
        target=f"identity:{identity.job_id}",
        detail={
            "audience": audience,
            "subject": str(claims["sub"]),
            "token": str(claims["jti"]),
            "key": key_id,
            "job": identity.job_id,
            "attempt": identity.attempt,
            "run": identity.run_id,
            "expires": int(str(claims["exp"])),
        },
    )
    who = f"{identity.job_id} {identity.attempt}"
    use_count_add(tx, what="identity-tokens", who=who, most=MOST_OF_AN_ATTEMPT, until=now + _COUNTED_FOR)
    return token


def identity_tokens_used_up(identity: JobIdentity) -> TooManyRequests:
    """The error for an attempt that has got as many tokens as are allowed. This process signs none for it any more."""
    cache.set(_used_up_key(identity), True, _REFUSED_SECONDS)
    return TooManyRequests(
        f"This attempt has got {MOST_OF_AN_ATTEMPT} identity tokens already. Ask once for each audience, and use the "
        "token again until it ends.",
        code=ErrorCode.TOO_MANY_IDENTITY_TOKENS,
    )


def identity_token_refused(*, agent: Actor, job_id: str, attempt: int, audience: str, code: ErrorCode) -> None:
    """Record that an agent asked for a token and was refused, once for each job and reason, however often it asks."""
    who = f"{agent.id}:{job_id}:{code}"
    recorded = f"identity-token-refused:{who}"
    if cache.get(recorded):
        return
    tx = Transaction()
    use_count_add(tx, what="identity-token-refused", who=who, most=1, until=clock.now() + _COUNTED_FOR)
    audit_add(
        tx,
        actor=agent,
        action=Action.IDENTITY_TOKEN_REFUSED,
        target=f"identity:{job_id}",
        result="refused",
        detail={"audience": audience, "job": job_id, "attempt": attempt, "code": code.value},
    )
    # Another process may have recorded it.
    with suppress(TransactionFailed):
        tx.commit()
    cache.set(recorded, True, _REFUSED_SECONDS)


def published_keys() -> list[dict[str, str]]:
    """The public keys that verify tokens, as JSON Web Keys (RFC 7517). Raises Unavailable when KMS does not answer."""
    return [
        {
            "kty": "RSA",
            "use": "sig",
            "alg": key.algorithm,
            "kid": key.key_id,
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }
        for key in signing_keys(Purpose.IDENTITY)
        if isinstance(key.public_key, RSAPublicKey)
        for numbers in [key.public_key.public_numbers()]
    ]


def _number(number: int) -> str:
    """The number as RFC 7518 writes it, section 2: Base64urlUInt."""
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8))


def _signed(claims: dict[str, Any]) -> tuple[str, str]:
    """The claims as a token (RFC 7515, compact form), and the id of the key. Raises Unprocessable, Unavailable."""
    key = signing_key(Purpose.IDENTITY)
    header = {"typ": "JWT", "alg": key.algorithm, "kid": key.key_id}
    content = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
    if len(content) > SIGNED_MOST:
        raise Unprocessable(
            "The names of this job's ref and repository are too long for an identity token. Use a shorter branch name.",
            code=ErrorCode.IDENTITY_TOKEN_TOO_LONG,
        )
    return f"{content}.{_encoded(key.sign(content.encode()))}", key.key_id


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _used_up_key(identity: JobIdentity) -> str:
    return f"identity-tokens-used-up:{identity.job_id}:{identity.attempt}"
