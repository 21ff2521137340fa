"""HTTP message signatures (RFC 9421, hmac-sha256) and content digests (RFC 9530) of requests.

A strict verifier: it accepts signatures only in the form that the product's agents write. Every heartbeat needs it, and
it costs a tenth of a general library. Tests compare it with the RFC's example and with such a library.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotAuthenticated

# A signature whose time differs from the server's by more than this is rejected.
WINDOW_SECONDS = 300

REQUIRED_COMPONENTS = ("@method", "@path", "content-digest")

_MAX_HEADER = 1024
_MAX_COMPONENTS = 16

# One member of a dictionary (RFC 8941) in its canonical form, so that the text as sent is the text as signed.
_LABEL = r"(?P<label>[a-z*][a-z0-9_.*-]{0,63})"
_INPUT = re.compile(
    _LABEL
    + r'=(?P<signed>\((?P<components>"[a-z0-9@-]{1,64}"(?: "[a-z0-9@-]{1,64}")*)\)'
    + r'(?P<parameters>(?:;[a-z]{1,16}=(?:"[ !#-\[\]-~]{0,256}"|0|[1-9][0-9]{0,14}))+))',
    re.ASCII,
)
_PARAMETER = re.compile(r';([a-z]+)=(?:"([^"]*)"|([0-9]+))', re.ASCII)
_SIGNATURE = re.compile(_LABEL + r"=(?P<value>:[A-Za-z0-9+/]{43}=:)", re.ASCII)
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)

_TEXT_PARAMETERS = frozenset({"keyid", "nonce", "alg"})


@dataclass(frozen=True)
class Signature:
    """A signature from the headers of a request, not verified yet."""

    components: tuple[str, ...]
    created: int | None
    keyid: str | None
    nonce: str | None
    # The value of "@signature-params".
    signed: str
    # Base64 between colons, as sent.
    value: str


def signature_read(signature_input: str, signature: str) -> Signature:
    """Read the headers Signature-Input and Signature.

    Raises NotAuthenticated (``signature_missing``, ``signature_invalid``) unless they contain exactly one signature, in
    the canonical form, by hmac-sha256 and without parameters other than `created`, `keyid`, `nonce` and `alg`.
    """
    if not signature_input or not signature:
        raise NotAuthenticated("The request is not signed.", code=ErrorCode.SIGNATURE_MISSING)
    if len(signature_input) > _MAX_HEADER or len(signature) > _MAX_HEADER:
        raise _invalid("its headers are too long")
    described = _INPUT.fullmatch(signature_input)
    given = _SIGNATURE.fullmatch(signature)
    if described is None or given is None or described["label"] != given["label"]:
        raise _invalid("its headers must contain one HMAC-SHA256 signature in canonical form")
    components = tuple(part.strip('"') for part in described["components"].split(" "))
    if len(components) > _MAX_COMPONENTS or len(set(components)) != len(components):
        raise _invalid(f"it must cover at most {_MAX_COMPONENTS} components, each of them once")
    parameters = _parameters(described["parameters"])
    if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise _invalid("its algorithm must be hmac-sha256")
    created = parameters.get("created")
    return Signature(
        components=components,
        created=int(created) if created is not None else None,
        keyid=parameters.get("keyid"),
        nonce=parameters.get("nonce"),
        signed=described["signed"],
        value=given["value"],
    )


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        name, quoted, number = match.groups()
        if name in parameters:
            raise _invalid(f"it has the parameter {name} twice")
        if name in _TEXT_PARAMETERS and quoted is not None:
            parameters[name] = quoted
        elif name == "created" and number is not None:
            parameters[name] = number
        else:
            raise _invalid(f"its parameter {name} is unknown or has the wrong type")
    return parameters


def signature_require(signature: Signature) -> tuple[int, str, str]:
    """Check the parameters of an agent's signature, before its key is read. Returns `created`, `keyid` and `nonce`.

    Raises NotAuthenticated: ``signature_invalid`` when a component or a parameter is missing, ``signature_expired``
    when `created` is more than WINDOW_SECONDS from now.
    """
    missing = [name for name in REQUIRED_COMPONENTS if name not in signature.components]
    if missing:
        raise _invalid(f"it does not cover {', '.join(missing)}")
    if signature.created is None or not signature.keyid or not signature.nonce:
        raise _invalid("it needs created, keyid and nonce")
    if not _NONCE.fullmatch(signature.nonce):
        raise _invalid("its nonce must be 16 to 64 characters of A-Z, a-z, 0-9, _ and -")
    if abs(clock.epoch() - signature.created) > WINDOW_SECONDS:
        raise NotAuthenticated(
            f"The signature's time is off by more than {WINDOW_SECONDS} seconds. Set the machine's clock.",
            code=ErrorCode.SIGNATURE_EXPIRED,
        )
    return signature.created, signature.keyid, signature.nonce


def signature_verify(signature: Signature, *, key: bytes, component: Callable[[str], str | None]) -> None:
    """Verify the signature with the key, in constant time.

    `component` returns the value of a covered component by its name (None when the request lacks it). Raises
    NotAuthenticated (``signature_invalid``).
    """
    values = {name: component(name) for name in signature.components}
    lines = []
    for name, value in values.items():
        if value is None or not value.isascii() or not value.isprintable():
            raise _invalid(f"the request has no valid {name}")
        lines.append(f'"{name}": {value if name.startswith("@") else value.strip()}')
    lines.append(f'"@signature-params": {signature.signed}')
    digest = hmac.digest(key, "\n".join(lines).encode(), hashlib.sha256)
    # This compares texts, since several texts of base64 decode to the same bytes.
    if not hmac.compare_digest(_byte_sequence(digest), signature.value):
        raise _invalid("it does not match the request")


def digest_header(body: bytes) -> str:
    """The value of the Content-Digest header for a body."""
    return f"sha-256={_byte_sequence(hashlib.sha256(body).digest())}"


def digest_require(header: str, body: bytes) -> None:
    """Raises NotAuthenticated (``digest_mismatch``) unless the header is the SHA-256 of the body, and nothing else."""
    if not hmac.compare_digest(digest_header(body).encode(), header.encode(errors="replace")):
        raise NotAuthenticated("Content-Digest is not the SHA-256 of the body.", code=ErrorCode.DIGEST_MISMATCH)


def _byte_sequence(value: bytes) -> str:
    return f":{base64.b64encode(value).decode()}:"


def _invalid(why: str) -> NotAuthenticated:
    return NotAuthenticated(f"The signature is not valid: {why}.", code=ErrorCode.SIGNATURE_INVALID)
