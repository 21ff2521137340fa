"""Cursors: only ours open, and only in their own list."""

import re
from typing import Any

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st

from controlplane.lib.cursors import MAX_LENGTH, cursor_decode, cursor_encode
from controlplane.lib.errors import InvalidInput

SCOPE = "jobs?status=queued"
KEY = {"day": "2026-11-21", "created_at#job_id": "2026-11-21T09:35:37.000000Z#01j", "count": 3}


def refused(scope: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        cursor_decode(scope, text)
    assert caught.value.code == "invalid_cursor"
    assert [error["field"] for error in caught.value.errors] == ["cursor"]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_a_cursor_opens_to_the_key_it_was_made_from(key: dict[str, object]) -> None:
    assert cursor_decode(SCOPE, cursor_encode(SCOPE, key)) == key


def test_a_cursor_needs_no_escaping_in_a_url() -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", cursor_encode(SCOPE, KEY | {"name": "ä / ? & ☃" * 20}))


def test_a_cursor_of_another_list_is_refused() -> None:
    refused("jobs?status=running", cursor_encode(SCOPE, KEY))


@given(st.data())
def test_a_cursor_with_one_changed_character_is_refused(data: st.DataObject) -> None:
    text = cursor_encode(SCOPE, KEY)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("Aaz09_-.~é").filter(lambda character: character != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    # The last character of base64 has bits that carry nothing, but the text is compared and not its meaning.
    refused(SCOPE, changed)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    refused(SCOPE, text)


def test_a_signed_value_that_is_no_key_is_refused() -> None:
    refused(SCOPE, signing.Signer(salt=f"cursor of {SCOPE}", sep=".").sign_object(["not", "a", "key"]))


def test_a_cursor_has_8192_characters_at_most() -> None:
    assert MAX_LENGTH == 8192
    value = "x" * 6000
    while len(cursor_encode(SCOPE, {"key": value + "x"})) <= MAX_LENGTH:
        value += "x"
    longest = cursor_encode(SCOPE, {"key": value})
    assert len(longest) == MAX_LENGTH
    assert cursor_decode(SCOPE, longest) == {"key": value}
    refused(SCOPE, cursor_encode(SCOPE, {"key": value + "x"}))


@pytest.mark.parametrize(
    ("fallbacks", "valid"), [(["the old key"], True), (["another", "the old key"], True), ([], False)]
)
def test_a_cursor_lives_on_when_the_key_changes_if_the_old_key_is_a_fallback(
    settings: Any, fallbacks: list[str], valid: bool
) -> None:
    settings.SECRET_KEY = "the old key"
    cursor = cursor_encode(SCOPE, KEY)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the new key", fallbacks
    if valid:
        assert cursor_decode(SCOPE, cursor) == KEY
        refused("jobs?status=running", cursor)
    else:
        refused(SCOPE, cursor)
    assert cursor_encode(SCOPE, KEY) != cursor
