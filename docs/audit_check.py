"""Check a proof of `manage.py audit_prove`: python audit_check.py PROOF.json PUBLIC-KEY.pem

It needs Python and the package cryptography alone. The key must come from where the control plane cannot write.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

END = "-----END PUBLIC KEY-----"


def signing_key(pem: str, digest: str) -> Any:
    """The key of the file that the seal names."""
    for block in pem.split(END)[:-1]:
        key = serialization.load_pem_public_key((block[block.index("-----BEGIN") :] + END).encode())
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if hashlib.sha256(der).hexdigest() == digest:
            return key
    return sys.exit("WRONG: no key of the file has signed this seal.")


def root(leaf: bytes, index: int, size: int, proof: list[str]) -> bytes | None:
    """The root of the tree that the proof leads to: RFC 9162, section 2.1.3.2."""
    found, last = leaf, size - 1
    for sibling in map(bytes.fromhex, proof):
        is_left = index & 1 or index == last
        found = hashlib.sha256(b"\x01" + (sibling + found if is_left else found + sibling)).digest()
        while is_left and index and not index & 1:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    return found if last == 0 else None


def main(proof: Any, pem: str) -> str:
    """Check the signature of the seal, and that the event is in its tree."""
    statement, text = json.loads(proof["seal"]["statement"]), proof["seal"]["statement"]
    key, signature = signing_key(pem, statement["key"]), base64.b64decode(proof["seal"]["signature"])
    rsa_only = (padding.PKCS1v15(), hashes.SHA256()) if isinstance(key, rsa.RSAPublicKey) else ()
    try:
        key.verify(signature, b"hybrid-ci audit seal v1\n" + text.encode(), *rsa_only)
    except InvalidSignature:
        sys.exit("WRONG: the seal was changed.")
    event = json.dumps(proof["record"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    leaf, index, size = hashlib.sha256(b"\x00" + event).digest(), proof["leaf"], statement["size"]
    if not 0 <= index < size or root(leaf, index, size, proof["proof"]) != bytes.fromhex(statement["root"]):
        sys.exit("WRONG: the seal does not have this event.")
    return f"RIGHT: {proof['record']['entry']} is event {index + 1} of {size} in seal {statement['number']}."


if __name__ == "__main__":
    sys.stdout.write(f"{main(*(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).read_text()))}\n")
