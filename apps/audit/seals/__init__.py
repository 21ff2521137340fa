"""A seal of the audit trail: what it says, what its signature covers, and how it is checked. See docs/audit.md.

Nothing here reads the database, so that the same code checks the trail and an export of it.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from apps.audit.merkle import Edge, ProofError, consistency_verify
from controlplane.lib.frozen import frozen
from controlplane.lib.signing_keys import PublicKey, verify

# What is signed begins with this line, so that no signature of another purpose is one of a seal.
_DOMAIN = b"hybrid-ci audit seal v1\n"
# The digest before the first seal.
NO_DIGEST = "0" * 64
_HASH_BYTES = 32


class SealError(ValueError):
    """A seal is not what was sealed. The message says what is wrong, and begins with the seal's number."""


@frozen
class Statement:
    """What a seal says.

    It covers the events from the entry `since` to before `through`, in the order of their entries, and then `late`
    others, which were written after their time had been sealed. `records` are all of these. `size` and `root` are those
    of the tree of all events up to here. `index` is the digest of `Leaves.lines`, so that a deleted event can be named
    with certainty. `previous` is the digest of the seal before. Up to the seal `settled` a second look has found all
    late events. `key` is the SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    """

    number: int
    since: str
    through: str
    records: int
    late: int
    size: int
    root: str
    index: str
    previous: str
    settled: int
    sealed_at: str
    key: str

    @property
    def text(self) -> str:
        """The statement as it is signed: JSON by RFC 8785."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        return json.dumps(members, sort_keys=True, separators=(",", ":"))

    @property
    def signed(self) -> bytes:
        """The bytes that are signed."""
        return _DOMAIN + self.text.encode()

    @property
    def digest(self) -> str:
        """By which the next seal, and reports, name this one: the SHA-256 of what is signed, in hexadecimal."""
        return hashlib.sha256(self.signed).hexdigest()

    @classmethod
    def parse(cls, text: str) -> "Statement":
        """The statement of a text. Raises ValueError if it is not one, letter by letter."""
        found = json.loads(text)
        if not isinstance(found, dict) or found.keys() != _MEMBERS.keys():
            raise ValueError("this is no statement of a seal")
        if not all(type(found[name]) is kind for name, kind in _MEMBERS.items()):
            raise ValueError("a member of the statement has another type")
        statement = cls(**found)
        if statement.text != text:
            raise ValueError("the statement is not in its canonical form")
        return statement


_MEMBERS: dict[str, type] = {
    name: int if name in ("number", "records", "late", "size", "settled") else str
    for name in (
        *("number", "since", "through", "records", "late", "size", "root", "index", "previous", "settled"),
        *("sealed_at", "key"),
    )
}


@frozen
class Seal:
    """A signed statement, with the edge of its tree and the proof that the tree before is its beginning."""

    statement: Statement
    signature: bytes
    edge: Edge
    consistency: tuple[bytes, ...]

    @property
    def number(self) -> int:
        return self.statement.number


@frozen
class Leaves:
    """The leaves of a seal, in their order: the entries of the events, the hashes, and when DynamoDB may delete them.

    `expiries` are in seconds since 1970, and 0 for an event that stays.
    """

    entries: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    expiries: list[int] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """A line for each event: its entry, and after a space its expiry if it has one."""
        pairs = zip(self.entries, self.expiries, strict=True)
        return [f"{entry} {expiry}" if expiry else entry for entry, expiry in pairs]

    @property
    def index(self) -> str:
        """The SHA-256 of the lines, each with a line feed, in hexadecimal."""
        return hashlib.sha256("".join(f"{line}\n" for line in self.lines).encode()).hexdigest()

    @classmethod
    def of(cls, lines: Sequence[str], hashes: Sequence[bytes]) -> "Leaves":
        """The leaves of such lines. Raises ValueError if they are none, or have another number than the hashes."""
        pairs = [line.partition(" ") for line in lines]
        expiries = [int(expiry) if expiry else 0 for _, _, expiry in pairs]
        if len(lines) != len(hashes):
            raise ValueError("there is another number of hashes than of entries")
        return cls([entry for entry, _, _ in pairs], list(hashes), expiries)


def seal_document(seal: Seal) -> dict[str, Any]:
    """The seal as an object of JSON, as the API, exports and object storage have it."""
    return {
        "statement": seal.statement.text,
        "signature": b64encode(seal.signature).decode(),
        "edge": [root.hex() for root in seal.edge.roots],
        "consistency": [node.hex() for node in seal.consistency],
    }


def seal_parse(document: Any) -> Seal:
    """The seal of such an object. Raises SealError, also for another way to write the same seal."""
    try:
        statement = Statement.parse(document["statement"])
        edge = Edge(statement.size, tuple(map(hash_parse, document["edge"])))
        signature = b64decode(document["signature"], validate=True)
        seal = Seal(statement, signature, edge, tuple(map(hash_parse, document["consistency"])))
        # Base64 ignores the last bits of some texts: an edit of them must not pass for the original.
        if b64encode(signature).decode() != document["signature"]:
            raise ValueError("the signature is not written as those of seals are")
    except (KeyError, TypeError, ValueError) as error:
        raise SealError(f"This is no seal: {error}.") from error
    return seal


def hash_parse(text: str) -> bytes:
    """A hash in hexadecimal, with small letters. Raises ValueError."""
    found = bytes.fromhex(text)
    if len(found) != _HASH_BYTES or found.hex() != text:
        raise ValueError("a hash is 64 hexadecimal digits")
    return found


def hashes_join(hashes: Sequence[bytes]) -> bytes:
    """Hashes as one value of bytes."""
    return b"".join(hashes)


def hashes_split(data: bytes) -> tuple[bytes, ...]:
    """The hashes of `hashes_join`. Raises ValueError if the length is none of hashes."""
    if len(data) % _HASH_BYTES:
        raise ValueError("these bytes are no hashes")
    return tuple(data[begin : begin + _HASH_BYTES] for begin in range(0, len(data), _HASH_BYTES))


def key_digest(key: PublicKey) -> str:
    """By which a statement names the key: the SHA-256 of its SubjectPublicKeyInfo in DER, in hexadecimal."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def key_pem(key: PublicKey) -> str:
    """The key as PEM."""
    data = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data.decode()


def keys_parse(text: str) -> dict[str, PublicKey]:
    """The public keys of a text with any number of PEM blocks, by their digests. Raises ValueError."""
    end = "-----END PUBLIC KEY-----"
    blocks = [block[block.index("-----BEGIN") :] + end for block in text.split(end)[:-1]]
    keys: list[Any] = [serialization.load_pem_public_key(block.encode()) for block in blocks]
    if not keys:
        raise ValueError("there is no public key (PEM) in it")
    return {key_digest(key): key for key in keys}


def chain_check(seal: Seal, before: Seal | None, keys: Mapping[str, PublicKey]) -> None:
    """Check the signature, and that the seal continues the one before it. Raises SealError."""
    statement, number = seal.statement, seal.number
    previous = before.statement if before else None
    if number != (previous.number if previous else 0) + 1:
        raise SealError(
            f"Seal {(previous.number if previous else 0) + 1} is missing: seal {number} comes in its place."
        )
    if statement.previous != (previous.digest if previous else NO_DIGEST):
        raise SealError(f"Seal {number} does not continue seal {number - 1}: one of them was replaced.")
    if previous and (statement.since, statement.size) != (previous.through, previous.size + statement.records):
        raise SealError(f"Seal {number} does not begin where seal {number - 1} ends.")
    signature_check(seal, keys)


def signature_check(seal: Seal, keys: Mapping[str, PublicKey]) -> None:
    """Check the signature alone. Raises SealError."""
    key = keys.get(seal.statement.key)
    if key is None:
        raise SealError(f"Seal {seal.number} is signed by a key that is not known ({seal.statement.key[:16]}…).")
    try:
        verify(key, seal.signature, seal.statement.signed)
    except InvalidSignature:
        raise SealError(f"Seal {seal.number} has a wrong signature: it was edited.") from None


def leaves_check(seal: Seal, before: Seal | None, leaves: Leaves) -> None:
    """Check that these leaves, behind those of the seal before, are what was sealed. Raises SealError."""
    earlier = before.edge if before else Edge()
    grown = earlier.grown(leaves.hashes)
    if (grown.size, grown.root.hex(), leaves.index) != (seal.statement.size, seal.statement.root, seal.statement.index):
        raise SealError(f"Seal {seal.number} does not fit its events.")
    if seal.edge != grown:
        raise SealError(f"Seal {seal.number} has another edge than its tree: it was edited.")
    try:
        consistency_verify(earlier.size, earlier.root, grown.size, grown.root, seal.consistency)
    except ProofError as error:
        raise SealError(f"Seal {seal.number} has a wrong proof of consistency: {error}.") from error


def edge_check(seal: Seal) -> None:
    """Check the edge of a seal from which a check begins, against the signed root. Raises SealError."""
    edge = seal.edge
    if len(edge.roots) != edge.size.bit_count() or edge.root.hex() != seal.statement.root:
        raise SealError(f"Seal {seal.number} has another edge than its tree: it was edited.")
