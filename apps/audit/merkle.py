"""The Merkle tree of RFC 6962 section 2.1 over hashes of leaves: it only grows at its end.

A tree is kept as its `Edge`: the roots of its largest complete subtrees. That is enough to add leaves, and for all
proofs that concern leaves behind it. So no work here reads the whole trail.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from controlplane.lib.frozen import frozen

# The root of a tree without leaves.
EMPTY_ROOT = hashlib.sha256().digest()


class ProofError(ValueError):
    """A proof does not prove what it should."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@frozen
class Edge:
    """A tree of `size` leaves: the roots of its complete subtrees, from the largest, on the left, to the smallest.

    Their sizes are the powers of two in `size`.
    """

    size: int = 0
    roots: tuple[bytes, ...] = ()

    def grown(self, leaves: Iterable[bytes]) -> "Edge":
        """The tree with these hashes of leaves behind its own."""
        size, roots = self.size, list(self.roots)
        for leaf in leaves:
            size += 1
            roots.append(leaf)
            # As many subtrees are complete now as the new size has zeros at its end.
            rest = size
            while not rest & 1:
                right = roots.pop()
                roots[-1] = node_hash(roots[-1], right)
                rest >>= 1
        return Edge(size, tuple(roots))

    @property
    def root(self) -> bytes:
        """The root of the whole tree."""
        if not self.roots:
            return EMPTY_ROOT
        root = self.roots[-1]
        for left in self.roots[-2::-1]:
            root = node_hash(left, root)
        return root

    def subtree(self, begin: int, end: int, leaves: Sequence[bytes]) -> bytes:
        """The root over the leaves from `begin` to before `end`, where `leaves` are those behind this edge.

        `begin` and `end` are as RFC 6962 splits a tree. Raises LookupError for a part of one of this edge's subtrees.
        """
        if begin >= self.size:
            return _root(leaves[begin - self.size : end - self.size])
        at = 0
        for root in self.roots:
            width = _width(self.size - at)
            if (at, at + width) == (begin, end):
                return root
            at += width
        if end <= self.size:
            raise LookupError("this is inside of a complete subtree")
        middle = begin + _split(end - begin)
        return node_hash(self.subtree(begin, middle, leaves), self.subtree(middle, end, leaves))


def inclusion_proof(index: int, edge: Edge, leaves: Sequence[bytes]) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `edge` with `leaves` behind it, one of which it is: section 2.1.1."""
    proof = []
    begin, end = 0, edge.size + len(leaves)
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(edge.subtree(middle, end, leaves))
            end = middle
        else:
            proof.append(edge.subtree(begin, middle, leaves))
            begin = middle
    return proof[::-1]


def consistency_proof(edge: Edge, leaves: Sequence[bytes]) -> list[bytes]:
    """Prove that the tree of `edge` is the beginning of the tree with `leaves` behind it: section 2.1.2."""
    if not edge.size or not leaves:
        return []
    proof = []
    begin, end, whole = 0, edge.size + len(leaves), True
    while end != edge.size:
        middle = begin + _split(end - begin)
        if edge.size <= middle:
            proof.append(edge.subtree(middle, end, leaves))
            end = middle
        else:
            proof.append(edge.subtree(begin, middle, leaves))
            begin, whole = middle, False
    if not whole:
        proof.append(edge.subtree(begin, end, leaves))
    return proof[::-1]


def inclusion_verify(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof: RFC 9162 section 2.1.3.2. Raises ProofError."""
    if not 0 <= index < size:
        raise ProofError("the tree has no such leaf")
    found = leaf
    for sibling, is_left in _siblings(index, size - 1, proof):
        found = node_hash(sibling, found) if is_left else node_hash(found, sibling)
    if found != root:
        raise ProofError("the proof leads to another root")


def consistency_verify(size: int, root: bytes, later_size: int, later_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree `root` is the beginning of `later_root`: RFC 9162 section 2.1.4.2. Raises ProofError."""
    if size == 0 or size == later_size:
        if proof or size > later_size or (size and root != later_root):
            raise ProofError("the trees differ")
        return
    if size > later_size:
        raise ProofError("the earlier tree is larger")
    nodes = list(proof) if size & (size - 1) else [root, *proof]
    if not nodes:
        raise ProofError("the proof is too short")
    number, last = size - 1, later_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    first = second = nodes[0]
    for node, is_left in _siblings(number, last, nodes[1:]):
        if is_left:
            first = node_hash(node, first)
        second = node_hash(node, second) if is_left else node_hash(second, node)
    if (first, second) != (root, later_root):
        raise ProofError("the proof leads to another root")


def _siblings(number: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The hashes of a proof on the way from node `number` of a level to the root, and whether each is on the left.

    `last` is the last node of that level. Raises ProofError for a proof of another length.
    """
    for sibling in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        is_left = bool(number & 1) or number == last
        yield sibling, is_left
        while is_left and number and not number & 1:
            number, last = number >> 1, last >> 1
        number, last = number >> 1, last >> 1
    if last:
        raise ProofError("the proof is too short")


def _root(leaves: Sequence[bytes]) -> bytes:
    return Edge().grown(leaves).root


def _width(size: int) -> int:
    """The size of the largest complete subtree at the beginning of a tree."""
    return 1 << (size.bit_length() - 1)


def _split(size: int) -> int:
    """The size of the left part of a tree of two leaves or more: the largest power of two that is smaller."""
    return 1 << ((size - 1).bit_length() - 1)
