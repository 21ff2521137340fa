#!/usr/bin/env python3
"""Check the provenance of an artifact: python3 provenance_check.py FILE PROVENANCE KEYS.pem [NAME=VALUE ...]

FILE is the artifact as it was downloaded, PROVENANCE the answer of GET /artifacts/{id}/provenance, and KEYS.pem the
public keys that `manage.py audit_public_key` prints. Each NAME=VALUE must be in the provenance: builder, commit, or a
parameter such as repository, ref and pipeline. It needs Python 3.9 and the package cryptography, and no network.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding

END = "-----END PUBLIC KEY-----"


def payload_signed(envelope, pem):
    """The payload, if one of the keys has signed it."""
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    for block in pem.split(END)[:-1]:
        key = serialization.load_pem_public_key((block[block.index("-----BEGIN") :] + END).encode())
        how = () if isinstance(key, ed25519.Ed25519PublicKey) else (padding.PKCS1v15(), hashes.SHA256())
        for signature in envelope["signatures"]:
            try:
                key.verify(base64.b64decode(signature["sig"]), signed, *how)
            except InvalidSignature:
                continue
            return json.loads(payload)
    sys.exit("The provenance is not signed by one of these keys.")


def main(file, provenance, keys, *wanted):
    envelope = json.loads(Path(provenance).read_text(encoding="utf-8"))
    statement = payload_signed(envelope, Path(keys).read_text(encoding="utf-8"))
    types = envelope["payloadType"], statement["_type"], statement["predicateType"]
    if types[1:] != ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"):
        sys.exit(f"This is no SLSA provenance: {', '.join(types)}.")
    digest = hashlib.sha256()
    with Path(file).open("rb") as opened:
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() not in [subject["digest"].get("sha256") for subject in statement["subject"]]:
        sys.exit(f"The provenance is of another file: this one has the SHA-256 {digest.hexdigest()}.")
    build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    commit = next((found["digest"].get("gitCommit") for found in build["resolvedDependencies"]), None)
    said = {**build["externalParameters"], "builder": run["builder"]["id"], "commit": commit}
    for name, _, value in (text.partition("=") for text in wanted):
        if said.get(name) != value:
            sys.exit(f"{name} is {said.get(name)!r}, not {value!r}.")
    sys.stdout.write(f"{file} was built by {said['builder']} from {said['repository']} {said['ref']} at {commit}.\n")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 3 else sys.exit(__doc__)
