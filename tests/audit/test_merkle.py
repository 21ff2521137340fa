"""The Merkle tree against RFC 6962's own definition, and that no proof proves anything else."""

import hashlib
from itertools import accumulate

import pytest

from apps.audit.merkle import (
    EMPTY_ROOT,
    Edge,
    ProofError,
    consistency_proof,
    consistency_verify,
    inclusion_proof,
    inclusion_verify,
)

LEAVES = [hashlib.sha256(b"\x00" + bytes([number])).digest() for number in range(40)]


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there, over hashes of leaves."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


ROOTS = [defined_root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]


def test_the_root_is_that_of_rfc_6962_however_the_tree_has_grown() -> None:
    assert EMPTY_ROOT == ROOTS[0] == Edge().root
    for first in range(len(LEAVES)):
        for second in range(first, len(LEAVES) + 1):
            edge = Edge().grown(LEAVES[:first]).grown(LEAVES[first:second])
            assert (edge.size, edge.root) == (second, ROOTS[second])
            assert len(edge.roots) == second.bit_count()


def test_known_roots() -> None:
    """The test vectors of Certificate Transparency's own log."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    hashes = [hashlib.sha256(b"\x00" + bytes.fromhex(text)).digest() for text in inputs]
    roots = [edge.root.hex() for edge in accumulate([[leaf] for leaf in hashes], Edge.grown, initial=Edge())]
    assert roots[1] == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[8] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_leaf_is_proved_from_the_edge_before_its_seal_and_its_seals_leaves() -> None:
    for begin in range(0, len(LEAVES), 3):
        for end in range(begin + 1, len(LEAVES) + 1, 2):
            edge, fresh = Edge().grown(LEAVES[:begin]), LEAVES[begin:end]
            for index in range(begin, end):
                proof = inclusion_proof(index, edge, fresh)
                inclusion_verify(LEAVES[index], index, end, proof, ROOTS[end])


def test_an_inclusion_proof_proves_nothing_else() -> None:
    size, index = 21, 17
    proof = inclusion_proof(index, Edge().grown(LEAVES[:16]), LEAVES[16:size])
    wrong = [
        (LEAVES[index - 1], index, size, proof, ROOTS[size]),
        (LEAVES[index], index - 1, size, proof, ROOTS[size]),
        (LEAVES[index], index, size + 12, proof, ROOTS[size]),
        (LEAVES[index], index, size, proof, ROOTS[size + 1]),
        (LEAVES[index], index, size, proof[1:], ROOTS[size]),
        (LEAVES[index], index, size, proof[:-1], ROOTS[size]),
        (LEAVES[index], index, size, [*proof, proof[0]], ROOTS[size]),
        (LEAVES[index], index, size, proof[::-1], ROOTS[size]),
        (LEAVES[index], size, size, proof, ROOTS[size]),
        (LEAVES[index], -1, size, proof, ROOTS[size]),
    ]
    for arguments in wrong:
        with pytest.raises(ProofError):
            inclusion_verify(*arguments)


def test_every_tree_is_proved_to_be_the_beginning_of_every_later_one() -> None:
    for size in range(len(LEAVES) + 1):
        for later in range(size, len(LEAVES) + 1):
            proof = consistency_proof(Edge().grown(LEAVES[:size]), LEAVES[size:later])
            consistency_verify(size, ROOTS[size], later, ROOTS[later], proof)
            if 0 < size < later:
                for wrong in (proof[1:], proof[:-1], [*proof, LEAVES[0]], [LEAVES[0], *proof[1:]]):
                    with pytest.raises(ProofError):
                        consistency_verify(size, ROOTS[size], later, ROOTS[later], wrong)
                with pytest.raises(ProofError):
                    consistency_verify(size, ROOTS[size - 1], later, ROOTS[later], proof)


@pytest.mark.parametrize(("size", "later"), [(3, 2), (3, 3), (0, 3)])
def test_a_tree_is_not_the_beginning_of_a_smaller_or_of_another_one(size: int, later: int) -> None:
    with pytest.raises(ProofError):
        consistency_verify(size, ROOTS[size], later, ROOTS[later + 1], [LEAVES[0]])


def test_the_inside_of_a_complete_subtree_is_unknown_to_an_edge() -> None:
    with pytest.raises(LookupError):
        Edge().grown(LEAVES[:8]).subtree(0, 4, [])
