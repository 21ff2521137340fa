"""A seal as an object of JSON has one way to be written."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from apps.audit.seals import Seal, SealError, seal_document, seal_parse
from apps.audit.selectors.seals import seal_head
from tests.audit.sealed import sealed_trail


@pytest.fixture
def seal(tables: None) -> Seal:
    """The last seal of a trail, with a signature whose text in base64 has four bits that mean nothing."""
    sealed_trail()
    head = seal_head()
    assert head is not None
    return replace(head, signature=bytes(64))


def last_bit(document: dict[str, Any]) -> None:
    document["signature"] = f"{'A' * 85}B=="


def capitals(document: dict[str, Any]) -> None:
    document["edge"][0] = document["edge"][0].upper()


def space(document: dict[str, Any]) -> None:
    document["edge"][0] = f"{document['edge'][0]} "


def test_a_seal_is_read_as_it_was_written(seal: Seal) -> None:
    assert seal_parse(seal_document(seal)) == seal


@pytest.mark.parametrize("rewrite", [last_bit, capitals, space])
def test_another_way_to_write_the_same_seal_is_no_seal(seal: Seal, rewrite: Callable[[dict[str, Any]], None]) -> None:
    document = seal_document(seal)
    rewrite(document)
    with pytest.raises(SealError, match=r"not written as|64 hexadecimal digits"):
        seal_parse(document)
