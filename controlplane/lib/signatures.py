"""HTTP message signatures (RFC 9421, hmac-sha256) and content digests (RFC 9530) of requests.

A strict verifier: it accepts signatures only in the form that the product's agents write. Every heartbeat needs it, and
it costs a tenth of a general library. Tests compare it with the RFC's example and with such a library.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from enum import StrEnum

from controlplane.lib import clock
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import NotAuthenticated
from controlplane.lib.frozen import frozen

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
    + r'(?P<parameters>(?:;[a-z]{1,16}=(?:"[ !#-\[\]-~]{0,256}"|0|[1-9][0-9]{0,14}))+))'
)
_PARAMETER = re.compile(r';([a-z]+)=(?:"([^"]*)"|([0-9]+))')
_SIGNATURE = re.compile(_LABEL + r"=(?P<value>:[A-Za-z0-9+/]{43}=:)")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")

_TEXT_PARAMETERS = frozenset({"keyid", "nonce", "alg"})


class SignatureRule(StrEnum):
    """The rules of a signature, each by what breaks it. Clients see one code for all, ``signature_invalid``."""

    HEADER_LENGTH = "header_length"
    INPUT_FORM = "input_form"
    SIGNATURE_FORM = "signature_form"
    LABELS_DIFFER = "labels_differ"
    COMPONENT_COUNT = "component_count"
    COMPONENT_TWICE = "component_twice"
    COMPONENT_MISSING = "component_missing"
    PARAMETER_TWICE = "parameter_twice"
    PARAMETER_UNKNOWN = "parameter_unknown"
    PARAMETER_MISSING = "parameter_missing"
    ALGORITHM = "algorithm"
    NONCE_FORM = "nonce_form"
    VALUE_ABSENT = "value_absent"
    VALUE_NOT_ASCII = "value_not_ascii"
    VALUE_NOT_PRINTABLE = "value_not_printable"
    MISMATCH = "mismatch"


class SignatureInvalid(NotAuthenticated):
    """The signature breaks `rule`."""

    code = ErrorCode.SIGNATURE_INVALID

    def __init__(self, rule: SignatureRule, why: str) -> None:
        super().__init__(f"The signature is not valid: {why}.")
        self.rule = rule


@frozen
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

    Raises NotAuthenticated ``signature_missing``, and SignatureInvalid unless they contain exactly one signature, in
    the canonical form, by hmac-sha256 and without parameters other than `created`, `keyid`, `nonce` and `alg`.
    """
    if not signature_input or not signature:
        raise NotAuthenticated("The request is not signed.", code=ErrorCode.SIGNATURE_MISSING)
    if max(len(signature_input), len(signature)) > _MAX_HEADER:
        raise SignatureInvalid(SignatureRule.HEADER_LENGTH, "its headers are too long")
    described, value = _matched(signature_input, signature)
    components = tuple(part.strip('"') for part in described["components"].split(" "))
    if len(components) > _MAX_COMPONENTS:
        raise SignatureInvalid(SignatureRule.COMPONENT_COUNT, f"it must cover at most {_MAX_COMPONENTS} components")
    if len(set(components)) != len(components):
        raise SignatureInvalid(SignatureRule.COMPONENT_TWICE, "it must cover each component once")
    parameters = _parameters(described["parameters"])
    if parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise SignatureInvalid(SignatureRule.ALGORITHM, "its algorithm must be hmac-sha256")
    created = parameters.get("created")
    return Signature(
        components=components,
        created=int(created) if created is not None else None,
        keyid=parameters.get("keyid"),
        nonce=parameters.get("nonce"),
        signed=described["signed"],
        value=value,
    )


def _matched(signature_input: str, signature: str) -> tuple[re.Match[str], str]:
    """The match of Signature-Input, and the value of Signature."""
    described = _INPUT.fullmatch(signature_input)
    if described is None:
        raise SignatureInvalid(
            SignatureRule.INPUT_FORM, "Signature-Input must describe one signature in canonical form"
        )
    given = _SIGNATURE.fullmatch(signature)
    if given is None:
        raise SignatureInvalid(SignatureRule.SIGNATURE_FORM, "Signature must contain one HMAC-SHA256 signature")
    if described["label"] != given["label"]:
        raise SignatureInvalid(SignatureRule.LABELS_DIFFER, "its headers must have the same label")
    return described, given["value"]


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        name, quoted, number = match.groups()
        if name in parameters:
            raise SignatureInvalid(SignatureRule.PARAMETER_TWICE, f"it has the parameter {name} twice")
        if name in _TEXT_PARAMETERS and quoted is not None:
            parameters[name] = quoted
        elif name == "created" and number is not None:
            parameters[name] = number
        else:
            raise SignatureInvalid(
                SignatureRule.PARAMETER_UNKNOWN, f"its parameter {name} is unknown or has the wrong type"
            )
    return parameters


def signature_require(signature: Signature) -> tuple[int, str, str]:
    """Check the parameters of an agent's signature, before its key is read. Returns `created`, `keyid` and `nonce`.

    Raises SignatureInvalid when a component or a parameter is missing, NotAuthenticated ``signature_expired`` when
    `created` is more than WINDOW_SECONDS from now.
    """
    missing = [name for name in REQUIRED_COMPONENTS if name not in signature.components]
    if missing:
        raise SignatureInvalid(SignatureRule.COMPONENT_MISSING, f"it does not cover {', '.join(missing)}")
    if signature.created is None or not signature.keyid or not signature.nonce:
        raise SignatureInvalid(SignatureRule.PARAMETER_MISSING, "it needs created, keyid and nonce")
    if not _NONCE.fullmatch(signature.nonce):
        raise SignatureInvalid(
            SignatureRule.NONCE_FORM, "its nonce must be 16 to 64 characters of A-Z, a-z, 0-9, _ and -"
        )
    if abs(clock.epoch() - signature.created) > WINDOW_SECONDS:
        raise NotAuthenticated(
            f"The signature's time is off by more than {WINDOW_SECONDS} seconds. Set the machine's clock.",
            code=ErrorCode.SIGNATURE_EXPIRED,
        )
    return signature.created, signature.keyid, signature.nonce


def signature_verify(signature: Signature, *, key: bytes, component: Callable[[str], str | None]) -> None:
    """Verify the signature with the key, in constant time.

    `component` returns the value of a covered component by its name (None when the request lacks it). Raises
    SignatureInvalid.
    """
    lines = [f'"{name}": {_value(name, component(name))}' for name in signature.components]
    lines.append(f'"@signature-params": {signature.signed}')
    digest = hmac.digest(key, "\n".join(lines).encode(), hashlib.sha256)
    # This compares texts, since several texts of base64 decode to the same bytes.
    if not hmac.compare_digest(_byte_sequence(digest), signature.value):
        raise SignatureInvalid(SignatureRule.MISMATCH, "it does not match the request")


def _value(name: str, value: str | None) -> str:
    """The value of a component as it is signed (RFC 9421, 2.1): that of a header without spaces around it."""
    if value is None:
        raise SignatureInvalid(SignatureRule.VALUE_ABSENT, f"the request has no {name}")
    if not value.isascii():
        raise SignatureInvalid(SignatureRule.VALUE_NOT_ASCII, f"the request's {name} must be ASCII")
    if not value.isprintable():
        raise SignatureInvalid(SignatureRule.VALUE_NOT_PRINTABLE, f"the request's {name} has a control character")
    return value if name.startswith("@") else value.strip()


def digest_header(body: bytes) -> str:
    """The value of the Content-Digest header for a body."""
    return f"sha-256={_byte_sequence(hashlib.sha256(body).digest())}"


def digest_require(header: str, body: bytes) -> None:
    """Raises NotAuthenticated (``digest_mismatch``) unless the header is the SHA-256 of the body, and nothing else."""
    if not hmac.compare_digest(digest_header(body).encode(), header.encode(errors="replace")):
        raise NotAuthenticated("Content-Digest is not the SHA-256 of the body.", code=ErrorCode.DIGEST_MISMATCH)


def _byte_sequence(value: bytes) -> str:
    return f":{base64.b64encode(value).decode()}:"
