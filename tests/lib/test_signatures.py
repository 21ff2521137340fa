"""Signatures: the RFC's own example, requests signed by an independent library, and everything that must be refused."""

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from hypothesis import given
from hypothesis import strategies as st

from agent.signing import signature_headers
from controlplane.lib import clock
from controlplane.lib.errors import NotAuthenticated
from controlplane.lib.signatures import (
    WINDOW_SECONDS,
    digest_header,
    digest_require,
    signature_read,
    signature_require,
    signature_verify,
)

KEY = b"k" * 32
PATH = "/prod/agents/01kajagent/heartbeat"
BODY = b'{"agent_id": "01kajagent"}'
NONCE = "abcdefghijklmnop"


def headers(**changes: Any) -> dict[str, str]:
    """The headers that the agent program sends."""
    arguments: dict[str, Any] = {
        "method": "POST",
        "path": PATH,
        "body": BODY,
        "key_id": "01kajagent.abc",
        "key": KEY,
        "created": clock.epoch(),
        "nonce": NONCE,
    }
    return signature_headers(**(arguments | changes))


def verify(sent: dict[str, str], *, method: str = "POST", path: str = PATH, body: bytes = BODY) -> None:
    """Everything the control plane does with a request's signature."""
    fields = {name.lower(): value for name, value in sent.items()} | {"@method": method, "@path": path}
    signature = signature_read(fields.get("signature-input", ""), fields.get("signature", ""))
    signature_require(signature)
    signature_verify(signature, key=KEY, component=fields.get)
    digest_require(fields["content-digest"], body)


def refused(code: str, sent: dict[str, str], **request: Any) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        verify(sent, **request)
    assert caught.value.code == code


# RFC 9421, section B.2.5 with the request and the key of B.1.5 and B.2.
RFC_KEY = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
RFC_REQUEST = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "@authority": "example.com",
    "content-type": "application/json",
}
RFC_INPUT = 'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
RFC_SIGNATURE = "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"


def test_the_hmac_example_of_rfc_9421_verifies() -> None:
    signature_verify(signature_read(RFC_INPUT, RFC_SIGNATURE), key=RFC_KEY, component=RFC_REQUEST.get)


@pytest.mark.parametrize("name", RFC_REQUEST)
def test_the_hmac_example_with_another_component_is_refused(name: str) -> None:
    request = RFC_REQUEST | {name: "other"}
    with pytest.raises(NotAuthenticated):
        signature_verify(signature_read(RFC_INPUT, RFC_SIGNATURE), key=RFC_KEY, component=request.get)


def test_the_digest_example_of_rfc_9530_matches() -> None:
    # Section B.1: the body with its final line feed.
    assert digest_header(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_what_the_agent_signs_verifies() -> None:
    verify(headers())


class _Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> bytes:
        return KEY

    resolve_public_key = resolve_private_key


class _Message:
    method = "POST"
    url = f"https://example.com{PATH}"

    def __init__(self) -> None:
        self.headers: dict[str, str] = {"Content-Type": "application/json"}


def library_signed(covered: tuple[str, ...]) -> dict[str, str]:
    message = _Message()
    signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=_Keys())
    signer.sign(
        message,
        key_id="01kajagent.abc",
        created=clock.now(),
        nonce=NONCE,
        label="sig1",
        covered_component_ids=covered,
        body=BODY,
    )
    return message.headers


@pytest.mark.parametrize("covered", [("@method", "@path"), ("@path", "content-type", "@method")])
def test_what_an_independent_library_signs_verifies(covered: tuple[str, ...]) -> None:
    verify(library_signed(covered))


def test_a_request_without_a_signature_is_reported_as_such() -> None:
    refused("signature_missing", {})
    refused("signature_missing", {"Signature-Input": headers()["Signature-Input"]})
    refused("signature_missing", {"Signature": headers()["Signature"]})


@given(st.data())
def test_any_changed_character_of_a_header_is_refused(data: st.DataObject) -> None:
    sent = headers()
    name = data.draw(st.sampled_from(sorted(sent)))
    place = data.draw(st.integers(0, len(sent[name]) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda character: character != sent[name][place]))
    sent[name] = sent[name][:place] + other + sent[name][place + 1 :]
    with pytest.raises(NotAuthenticated):
        verify(sent)


@given(st.data())
def test_any_cut_or_lengthened_header_is_refused(data: st.DataObject) -> None:
    sent = headers()
    name = data.draw(st.sampled_from(sorted(sent)))
    sent[name] = data.draw(
        st.integers(0, len(sent[name]) - 1).map(lambda end: sent[name][:end])
        | st.text(min_size=1, alphabet=st.characters(max_codepoint=255)).map(lambda more: sent[name] + more)
    )
    with pytest.raises(NotAuthenticated):
        verify(sent)


@given(st.data())
def test_any_flipped_bit_of_the_body_is_refused(data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(BODY) * 8 - 1))
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    refused("digest_mismatch", headers(), body=bytes(changed))


@given(st.text(alphabet=st.characters(max_codepoint=255)).filter(lambda path: path != PATH))
def test_any_other_path_is_refused(path: str) -> None:
    refused("signature_invalid", headers(), path=path)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "post", "POST ", ""])
def test_any_other_method_is_refused(method: str) -> None:
    refused("signature_invalid", headers(), method=method)


def test_another_key_is_refused() -> None:
    refused("signature_invalid", headers(key=b"j" * 32))


@pytest.mark.parametrize("seconds", [-WINDOW_SECONDS - 2, WINDOW_SECONDS + 2])
def test_a_signature_from_another_time_is_refused(seconds: int) -> None:
    refused("signature_expired", headers(created=clock.epoch() + seconds))


@pytest.mark.parametrize("seconds", [-WINDOW_SECONDS + 2, WINDOW_SECONDS - 2])
def test_a_clock_that_is_a_little_wrong_is_forgiven(seconds: int) -> None:
    verify(headers(created=clock.epoch() + seconds))


def test_a_signature_expires() -> None:
    sent = headers()
    with clock.shifted(timedelta(seconds=WINDOW_SECONDS + 2)):
        refused("signature_expired", sent)


COVERED = '("@method" "@path" "content-digest")'


def signed_with(covered: str = COVERED, parameters: str | None = None, label: str = "sig1") -> dict[str, str]:
    """Rightly signed, but in a form that need not be the required one."""
    if parameters is None:
        parameters = f';created={clock.epoch()};keyid="k";nonce="{NONCE}"'
    fields = {"@method": "POST", "@path": PATH, "content-digest": digest_header(BODY), "x-long": "x"}
    names = [name.strip('"') for name in covered.strip("()").split()]
    lines = [f'"{name}": {fields[name]}' for name in names if name in fields]
    lines.append(f'"@signature-params": {covered}{parameters}')
    value = base64.b64encode(hmac.digest(KEY, "\n".join(lines).encode(), hashlib.sha256)).decode()
    return {
        "Content-Digest": fields["content-digest"],
        "Signature-Input": f"{label}={covered}{parameters}",
        "Signature": f"{label}=:{value}:",
        "X-Long": "x",
    }


def test_the_plainest_form_verifies() -> None:
    verify(signed_with())


@pytest.mark.parametrize(
    "covered",
    [
        '("@path" "content-digest")',
        '("@method" "content-digest")',
        '("@method" "@path")',
        '("@method" "@path" "content-digest" "@method")',
        '("@method" "@path" "content-digest" "x-absent")',
        '("@method" "@path" "content-digest" "@signature-params")',
        '("@method" "@path" "content-digest";req)',
        '("@method"  "@path" "content-digest")',
        '( "@method" "@path" "content-digest")',
        '("@method" "@path" "Content-Digest")',
        "()",
        "(" + " ".join(f'"h{number}"' for number in range(60)) + ' "@method" "@path" "content-digest")',
    ],
)
def test_a_signature_that_covers_something_else_is_refused(covered: str) -> None:
    refused("signature_invalid", signed_with(covered))


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        ';keyid="k";nonce="abcdefghijklmnop"',
        ";created={now}",
        ';created={now};keyid="k"',
        ';created={now};nonce="abcdefghijklmnop"',
        ';created={now};keyid="";nonce="abcdefghijklmnop"',
        ';created={now};keyid="k";nonce="short"',
        ';created={now};keyid="k";nonce="' + "n" * 65 + '"',
        ';created={now};keyid="k";nonce="abcdefgh ijklmnop"',
        ';created="{now}";keyid="k";nonce="abcdefghijklmnop"',
        ';created={now}.0;keyid="k";nonce="abcdefghijklmnop"',
        ';created=0{now};keyid="k";nonce="abcdefghijklmnop"',
        ';created=-{now};keyid="k";nonce="abcdefghijklmnop"',
        ';created={now};keyid=k;nonce="abcdefghijklmnop"',
        ';created={now};keyid="k\\"";nonce="abcdefghijklmnop"',
        ';created={now};keyid="k";nonce="abcdefghijklmnop";alg="rsa-v1_5-sha256"',
        ';created={now};keyid="k";nonce="abcdefghijklmnop";alg="none"',
        ';created={now};keyid="k";nonce="abcdefghijklmnop";expires={now}',
        ';created={now};keyid="k";nonce="abcdefghijklmnop";created={now}',
        ';created={now};keyid="k";nonce="abcdefghijklmnop";keyid="k"',
        '; created={now};keyid="k";nonce="abcdefghijklmnop"',
        ';created={now};keyid="k";nonce="abcdefghijklmnop" ',
        ';created={now};keyid="k";nonce="abcdefghijklmnop"\n',
    ],
)
def test_a_signature_with_other_parameters_is_refused(parameters: str) -> None:
    refused("signature_invalid", signed_with(parameters=parameters.replace("{now}", str(clock.epoch()))))


def test_two_signatures_are_refused_even_if_both_are_right() -> None:
    first, second = signed_with(), signed_with(label="sig2")
    both = {name: f"{first[name]}, {second[name]}" for name in ("Signature-Input", "Signature")}
    refused("signature_invalid", first | both)


def test_a_header_sent_twice_is_refused() -> None:
    sent = headers()
    for name in ("Signature-Input", "Signature", "Content-Digest"):
        # A WSGI server joins what is sent twice.
        refused("signature_invalid", sent | {name: f"{sent[name]},{sent[name]}"})


def test_headers_under_different_labels_are_refused() -> None:
    sent = headers()
    refused("signature_invalid", sent | {"Signature": sent["Signature"].replace("sig1", "sig2")})


def test_overlong_headers_are_refused() -> None:
    refused("signature_invalid", signed_with(parameters=f';created={clock.epoch()};keyid="{"k" * 2000}"'))
    refused("signature_invalid", headers() | {"Signature": "sig1=:" + "A" * 100_000 + "=:"})


@pytest.mark.parametrize("digest", ["", "sha-512=:AAAA:", "sha-256=AAAA", "md5=:AAAA:", "sha-256=:é:"])
def test_another_digest_is_refused(digest: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        digest_require(digest, BODY)
    assert caught.value.code == "digest_mismatch"
