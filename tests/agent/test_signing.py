"""Signatures as RFC 9421 requires them, verified by an independent library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms

from agent import clock
from agent.signing import signature_headers

KEY = bytes(range(32))
COMPONENTS = ("@method", "@path", "content-digest")


class Keys(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == "agent1.1"
        return KEY


@dataclass
class Request:
    method: str = "POST"
    url: str = "https://example.org/staging/agents/agent1/heartbeat"
    body: bytes = b'{"a": 1}'
    headers: dict[str, str] = field(default_factory=dict)


def signed(body: bytes = b'{"a": 1}') -> Request:
    request = Request(body=body)
    request.headers = signature_headers(
        method="POST",
        path="/staging/agents/agent1/heartbeat",
        body=body,
        key_id="agent1.1",
        key=KEY,
        created=clock.epoch(),
        nonce="0123456789abcdef",
    )
    return request


def verify(request: Request) -> None:
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys())
    (result,) = verifier.verify(request, body=request.body, require_components=COMPONENTS)
    assert result.parameters["nonce"] == "0123456789abcdef"
    assert result.label == "sig1"


@pytest.mark.parametrize("body", [b'{"a": 1}', b"", b"\x1f\x8b\xff\x00"])
def test_a_signed_request_is_verified(body: bytes) -> None:
    verify(signed(body))


def change_header(name: str, before: str, after: str) -> Callable[[Request], None]:
    def change(request: Request) -> None:
        assert before in request.headers[name]
        request.headers[name] = request.headers[name].replace(before, after, 1)

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda request: setattr(request, "method", "PUT"),
        lambda request: setattr(request, "url", request.url.replace("/staging", "")),
        lambda request: setattr(request, "body", b'{"a": 2}'),
        change_header("Content-Digest", "sha-256=:", "sha-256=:AAAA"),
        change_header("Signature-Input", "created=1", "created=2"),
        change_header("Signature-Input", "0123456789abcdef", "0123456789abcdeg"),
        change_header("Signature", "=:", "=:AAAA"),
    ],
)
def test_a_changed_request_is_refused(change: Callable[[Request], None]) -> None:
    request = signed()
    change(request)
    with pytest.raises(InvalidSignature):
        verify(request)


def test_a_known_request_has_the_known_signature() -> None:
    headers = signature_headers(
        method="POST", path="/foo", body=b"", key_id="k", key=b"\0" * 32, created=1618884473, nonce="0123456789abcdef"
    )
    # The digest of an empty body, and the HMAC that openssl computes for the signature base, written by hand.
    assert headers["Content-Digest"] == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    assert headers["Signature-Input"] == (
        'sig1=("@method" "@path" "content-digest");created=1618884473;keyid="k";'
        'alg="hmac-sha256";nonce="0123456789abcdef"'
    )
    assert headers["Signature"] == "sig1=:D/SaoaKPtS2VzXp56s9j0T6qPUU2FC9AqiI46b5RECE=:"
