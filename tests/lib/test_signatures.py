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
    SignatureInvalid,
    SignatureRule,
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


def breaks(rule: SignatureRule, sent: dict[str, str], **request: Any) -> None:
    """The signature is refused for this rule and no other; clients see one code for all."""
    with pytest.raises(SignatureInvalid) as caught:
        verify(sent, **request)
    assert (caught.value.rule, caught.value.code, caught.value.status) == (rule, "signature_invalid", 401)
    assert caught.value.message.startswith("The signature is not valid: ")


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
    with pytest.raises(SignatureInvalid, match="does not match the request"):
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
    with pytest.raises(SignatureInvalid) as caught:
        verify(headers(), path=path)
    assert caught.value.rule == rule_of_value(path)


def rule_of_value(value: str) -> SignatureRule:
    if not value.isascii():
        return SignatureRule.VALUE_NOT_ASCII
    return SignatureRule.MISMATCH if value.isprintable() else SignatureRule.VALUE_NOT_PRINTABLE


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("/é", SignatureRule.VALUE_NOT_ASCII),
        ("/\u2028", SignatureRule.VALUE_NOT_ASCII),
        ("/a\nb", SignatureRule.VALUE_NOT_PRINTABLE),
        ("/a\x7fb", SignatureRule.VALUE_NOT_PRINTABLE),
        (f"{PATH} ", SignatureRule.MISMATCH),
        (f" {PATH}", SignatureRule.MISMATCH),
        ("", SignatureRule.MISMATCH),
    ],
)
def test_a_value_must_be_printable_ascii(value: str, rule: SignatureRule) -> None:
    breaks(rule, signed_with(fields={"@path": value}) if rule != SignatureRule.MISMATCH else headers(), path=value)
    assert rule_of_value(value) == rule


def test_spaces_around_a_headers_value_are_not_signed() -> None:
    sent = signed_with(COVERED[:-1] + ' "x-long")')
    verify(sent | {"X-Long": "  x "})
    breaks(SignatureRule.VALUE_NOT_PRINTABLE, sent | {"X-Long": "x\ty"})
    breaks(SignatureRule.MISMATCH, sent | {"X-Long": "x y"})


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "post", "POST ", ""])
def test_any_other_method_is_refused(method: str) -> None:
    breaks(SignatureRule.MISMATCH, headers(), method=method)


def test_another_key_is_refused() -> None:
    breaks(SignatureRule.MISMATCH, headers(key=b"j" * 32))


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> int:
    """The time, in seconds, at which the clock stands still."""
    now = clock.epoch()
    monkeypatch.setattr(clock, "epoch", lambda: now)
    return now


@pytest.mark.parametrize("seconds", [-WINDOW_SECONDS - 1, WINDOW_SECONDS + 1])
def test_a_signature_from_another_time_is_refused(stopped: int, seconds: int) -> None:
    refused("signature_expired", headers(created=stopped + seconds))


@pytest.mark.parametrize("seconds", [-WINDOW_SECONDS, WINDOW_SECONDS])
def test_a_clock_that_is_a_little_wrong_is_forgiven(stopped: int, seconds: int) -> None:
    verify(headers(created=stopped + seconds))


def test_a_signature_expires_after_five_minutes() -> None:
    assert timedelta(seconds=WINDOW_SECONDS) == timedelta(minutes=5)
    sent = headers()
    with clock.shifted(timedelta(seconds=WINDOW_SECONDS + 2)):
        refused("signature_expired", sent)


COVERED = '("@method" "@path" "content-digest")'


def signed_with(
    covered: str = COVERED,
    parameters: str | None = None,
    label: str = "sig1",
    fields: dict[str, str] | None = None,
) -> dict[str, str]:
    """Rightly signed, but in a form that need not be the required one: each line is there, also twice."""
    if parameters is None:
        parameters = f';created={clock.epoch()};keyid="k";nonce="{NONCE}"'
    fields = {
        "@method": "POST",
        "@path": PATH,
        "content-digest": digest_header(BODY),
        "x-long": "x",
        **{f"h{number}": str(number) for number in range(20)},
        **(fields or {}),
    }
    names = [name.strip('"') for name in covered.strip("()").split()]
    lines = [f'"{name}": {fields[name]}' for name in names if name in fields]
    lines.append(f'"@signature-params": {covered}{parameters}')
    value = base64.b64encode(hmac.digest(KEY, "\n".join(lines).encode(), hashlib.sha256)).decode()
    return {
        "Content-Digest": fields["content-digest"],
        "Signature-Input": f"{label}={covered}{parameters}",
        "Signature": f"{label}=:{value}:",
        **{name: value for name, value in fields.items() if name[0] in "xh"},
    }


def test_the_plainest_form_verifies() -> None:
    verify(signed_with())


MANY = " ".join(f'"h{number}"' for number in range(13))


def test_a_signature_may_cover_sixteen_components() -> None:
    verify(signed_with(f"{COVERED[:-1]} {MANY})"))


@pytest.mark.parametrize(
    ("covered", "rule"),
    [
        ('("@path" "content-digest")', SignatureRule.COMPONENT_MISSING),
        ('("@method" "content-digest")', SignatureRule.COMPONENT_MISSING),
        ('("@method" "@path")', SignatureRule.COMPONENT_MISSING),
        ('("@method" "@path" "content-digest" "@method")', SignatureRule.COMPONENT_TWICE),
        ('("@method" "@path" "content-digest" "x-absent")', SignatureRule.VALUE_ABSENT),
        ('("@method" "@path" "content-digest" "@signature-params")', SignatureRule.VALUE_ABSENT),
        ('("@method" "@path" "content-digest";req)', SignatureRule.INPUT_FORM),
        ('("@method"  "@path" "content-digest")', SignatureRule.INPUT_FORM),
        ('( "@method" "@path" "content-digest")', SignatureRule.INPUT_FORM),
        ('("@method" "@path" "Content-Digest")', SignatureRule.INPUT_FORM),
        ('("@method" "@path" "content-digest" "é")', SignatureRule.INPUT_FORM),
        ("()", SignatureRule.INPUT_FORM),
        (f'{COVERED[:-1]} {MANY} "h13")', SignatureRule.COMPONENT_COUNT),
        (f'{COVERED[:-1]} "{"h" * 65}")', SignatureRule.INPUT_FORM),
    ],
)
def test_a_signature_that_covers_something_else_is_refused(covered: str, rule: SignatureRule) -> None:
    breaks(rule, signed_with(covered))


_MISSING, _FORM, _UNKNOWN = (
    SignatureRule.PARAMETER_MISSING,
    SignatureRule.INPUT_FORM,
    SignatureRule.PARAMETER_UNKNOWN,
)


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ("", _FORM),
        (';keyid="k";nonce="abcdefghijklmnop"', _MISSING),
        (";created={now}", _MISSING),
        (';created={now};keyid="k"', _MISSING),
        (';created={now};nonce="abcdefghijklmnop"', _MISSING),
        (';created={now};keyid="";nonce="abcdefghijklmnop"', _MISSING),
        (';created={now};keyid="k";nonce=""', _MISSING),
        (';created={now};keyid="k";nonce="' + "n" * 15 + '"', SignatureRule.NONCE_FORM),
        (';created={now};keyid="k";nonce="' + "n" * 65 + '"', SignatureRule.NONCE_FORM),
        (';created={now};keyid="k";nonce="abcdefgh ijklmnop"', SignatureRule.NONCE_FORM),
        (';created={now};keyid="k";nonce="abcdefghijklmnopé"', _FORM),
        (';created="{now}";keyid="k";nonce="abcdefghijklmnop"', _UNKNOWN),
        (';created={now};keyid=5;nonce="abcdefghijklmnop"', _UNKNOWN),
        (';created={now}.0;keyid="k";nonce="abcdefghijklmnop"', _FORM),
        (';created=0{now};keyid="k";nonce="abcdefghijklmnop"', _FORM),
        (';created=-{now};keyid="k";nonce="abcdefghijklmnop"', _FORM),
        (';created={now};keyid=k;nonce="abcdefghijklmnop"', _FORM),
        (';created={now};keyid="k\\"";nonce="abcdefghijklmnop"', _FORM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";alg="rsa-v1_5-sha256"', SignatureRule.ALGORITHM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";alg="none"', SignatureRule.ALGORITHM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";alg=""', SignatureRule.ALGORITHM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";expires={now}', _UNKNOWN),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";tag="x"', _UNKNOWN),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";created={now}', SignatureRule.PARAMETER_TWICE),
        (';created={now};keyid="k";nonce="abcdefghijklmnop";keyid="k"', SignatureRule.PARAMETER_TWICE),
        ('; created={now};keyid="k";nonce="abcdefghijklmnop"', _FORM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop" ', _FORM),
        (';created={now};keyid="k";nonce="abcdefghijklmnop"\n', _FORM),
    ],
)
def test_a_signature_with_other_parameters_is_refused(parameters: str, rule: SignatureRule) -> None:
    breaks(rule, signed_with(parameters=parameters.replace("{now}", str(clock.epoch()))))


@pytest.mark.parametrize(
    "parameters",
    [
        ';nonce="' + "n" * 64 + '";keyid="k";created={now};alg="hmac-sha256"',
        ';created={now};keyid="' + "k" * 256 + '";nonce="' + "-_" * 8 + '"',
    ],
)
def test_a_signature_with_its_parameters_in_any_order_and_length_verifies(parameters: str) -> None:
    verify(signed_with(parameters=parameters.replace("{now}", str(clock.epoch()))))


def test_what_was_read_is_what_was_sent() -> None:
    sent = signed_with(parameters=f';created=5;keyid="k";nonce="{NONCE}"')
    signature = signature_read(sent["Signature-Input"], sent["Signature"])
    assert signature.components == ("@method", "@path", "content-digest")
    assert (signature.created, signature.keyid, signature.nonce) == (5, "k", NONCE)
    signature = signature_read(f'sig1={COVERED};alg="hmac-sha256"', sent["Signature"])
    assert (signature.created, signature.keyid, signature.nonce) == (None, None, None)
    now = clock.epoch()
    assert signature_require(signature_read(headers(created=now)["Signature-Input"], sent["Signature"])) == (
        now,
        "01kajagent.abc",
        NONCE,
    )


def test_two_signatures_are_refused_even_if_both_are_right() -> None:
    first, second = signed_with(), signed_with(label="sig2")
    both = {name: f"{first[name]}, {second[name]}" for name in ("Signature-Input", "Signature")}
    breaks(SignatureRule.INPUT_FORM, first | both)
    breaks(SignatureRule.SIGNATURE_FORM, first | {"Signature": both["Signature"]})


def test_a_header_sent_twice_is_refused() -> None:
    sent = headers()
    for name, rule in (
        ("Signature-Input", SignatureRule.INPUT_FORM),
        ("Signature", SignatureRule.SIGNATURE_FORM),
        ("Content-Digest", SignatureRule.MISMATCH),
    ):
        # A WSGI server joins what is sent twice.
        breaks(rule, sent | {name: f"{sent[name]},{sent[name]}"})


def test_headers_under_different_labels_are_refused() -> None:
    sent = headers()
    breaks(SignatureRule.LABELS_DIFFER, sent | {"Signature": sent["Signature"].replace("sig1", "sig2")})


@pytest.mark.parametrize(("length", "rule"), [(1024, SignatureRule.INPUT_FORM), (1025, SignatureRule.HEADER_LENGTH)])
def test_headers_have_1024_characters_at_most(length: int, rule: SignatureRule) -> None:
    breaks(rule, headers() | {"Signature-Input": "x" * length})
    form = SignatureRule.SIGNATURE_FORM if rule == SignatureRule.INPUT_FORM else rule
    breaks(form, headers() | {"Signature": "x" * length})


@pytest.mark.parametrize("digest", ["", "sha-512=:AAAA:", "sha-256=AAAA", "md5=:AAAA:", "sha-256=:é:"])
def test_another_digest_is_refused(digest: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        digest_require(digest, BODY)
    assert caught.value.code == "digest_mismatch"
