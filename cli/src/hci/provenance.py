"""Checks the signed provenance of an artifact: an in-toto statement with SLSA's provenance, in a DSSE envelope."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from hci.errors import HciError, UsageProblem

_TYPES = ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
_END = "-----END PUBLIC KEY-----"


def statement_verified(envelope: Mapping[str, Any], pem: str, *, sha256: str) -> dict[str, Any]:
    """What the provenance says of the artifact with this SHA-256: builder, commit and parameters by their names.

    `pem` has the public keys that are trusted. Raises HciError if none of them has signed it, or if it is of another
    file.
    """
    try:
        statement = json.loads(_signed_payload(envelope, pem))
        types = statement["_type"], statement["predicateType"]
        subjects = [subject["digest"].get("sha256") for subject in statement["subject"]]
        build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
        commits = [found["digest"].get("gitCommit") for found in build["resolvedDependencies"]]
        said = {**build["externalParameters"], "builder": run["builder"]["id"], "commit": next(iter(commits), None)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise HciError("This is no provenance.") from error
    if types != _TYPES:
        raise HciError("This is no SLSA provenance.")
    if sha256 not in subjects:
        raise HciError(f"The provenance is of another file: this one has the SHA-256 {sha256}.")
    return said


def _signed_payload(envelope: Mapping[str, Any], pem: str) -> bytes:
    """The payload, if one of the keys has signed it. Raises HciError, and KeyError, TypeError or ValueError."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
    except ImportError:
        raise UsageProblem("This needs the package cryptography: pip install 'hci[verify]'") from None
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    for block in pem.split(_END)[:-1]:
        try:
            key = serialization.load_pem_public_key((block[block.index("-----BEGIN") :] + _END).encode())
        except ValueError:
            raise UsageProblem("The keys must be in PEM, as `manage.py audit_public_key` prints them.") from None
        for signature in envelope["signatures"]:
            try:
                given = base64.b64decode(signature["sig"], validate=True)
                if isinstance(key, ed25519.Ed25519PublicKey):
                    key.verify(given, signed)
                elif isinstance(key, rsa.RSAPublicKey):
                    key.verify(given, signed, padding.PKCS1v15(), hashes.SHA256())
                else:
                    continue
            except (InvalidSignature, binascii.Error):
                continue
            return payload
    raise HciError("The provenance is not signed by one of these keys.")


def require(said: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Raises HciError if the provenance says something else than `wanted`."""
    for name, value in wanted.items():
        if said.get(name) != value:
            raise HciError(f"{name} is {said.get(name)!r} in the provenance, not {value!r}.")
