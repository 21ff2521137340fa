"""Proofs that an event is in the sealed trail, for people who have only a public key."""

from typing import Any

from apps.audit.canonical import canonical_record
from apps.audit.merkle import Edge, inclusion_proof
from apps.audit.seals import key_pem, seal_document
from apps.audit.selectors.seals import event_item, leaves_find, position_find, seal_find, seal_keys
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict, NotFound


def event_proof(entry: str) -> dict[str, Any]:
    """The proof that the event is in the tree of the seal that has it, as an object of JSON.

    `docs/audit_check.py` checks it. Raises NotFound, and Conflict ``event_not_sealed`` in the first minutes.
    """
    item = event_item(entry)
    if item is None:
        raise NotFound("There is no such audit event.", code=ErrorCode.EVENT_NOT_FOUND)
    position = position_find(entry)
    if position is None:
        raise Conflict("The event is not sealed yet. Try again in a few minutes.", code=ErrorCode.EVENT_NOT_SEALED)
    seal, leaf = position.seal, position.leaf
    before = seal_find(seal.number - 1)
    proof = inclusion_proof(leaf, before.edge if before else Edge(), leaves_find(seal.number).hashes)
    key = seal_keys().get(seal.statement.key)
    return {
        "record": canonical_record(item),
        "leaf": leaf,
        "proof": [node.hex() for node in proof],
        "seal": {name: seal_document(seal)[name] for name in ("statement", "signature")},
        "public_key": key_pem(key) if key else None,
    }
