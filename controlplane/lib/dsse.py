"""Signed envelopes as in DSSE 1.0 (Dead Simple Signing Envelope), which in-toto and SLSA use for their statements.

The bytes that are signed begin with DSSEv1 and name the type of the payload, so that no signature of an envelope is one
of anything else that the same key signs.
"""

import base64
from typing import Any

from controlplane.lib.signing_keys import SigningKey

# A key signs no more bytes, which is KMS's limit.
MOST_BYTES = 4096


def envelope(payload: bytes, *, payload_type: str, key: SigningKey) -> dict[str, Any]:
    """The envelope as an object of JSON. Raises ValueError if the key could not sign so many bytes, and Unavailable."""
    signed = pre_authentication(payload, payload_type)
    if len(signed) > MOST_BYTES:
        raise ValueError(f"the payload has {len(payload)} bytes, and keys sign at most {MOST_BYTES}")
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key.key_id, "sig": base64.b64encode(key.sign(signed)).decode()}],
    }


def pre_authentication(payload: bytes, payload_type: str) -> bytes:
    """The bytes that are signed (PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
