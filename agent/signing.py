"""RFC 9421 HTTP message signatures with hmac-sha256, and RFC 9530 content digests."""

from __future__ import annotations

import base64
import hashlib
import hmac

_COVERED = '("@method" "@path" "content-digest")'


def signature_headers(
    *, method: str, path: str, body: bytes, key_id: str, key: bytes, created: int, nonce: str
) -> dict[str, str]:
    """The three headers that sign a request.

    `path` is the whole path of the request line, a gateway's stage included; `body` is the body as it is sent, that is
    after compression; `created` is in seconds since 1970.
    """
    digest = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
    parameters = f'{_COVERED};created={created};keyid="{key_id}";alg="hmac-sha256";nonce="{nonce}"'
    base = "\n".join(
        (
            f'"@method": {method}',
            f'"@path": {path}',
            f'"content-digest": {digest}',
            f'"@signature-params": {parameters}',
        )
    )
    signature = hmac.new(key, base.encode("ascii"), hashlib.sha256).digest()
    return {
        "Content-Digest": digest,
        "Signature-Input": f"sig1={parameters}",
        "Signature": f"sig1=:{_base64(signature)}:",
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
