"""What the importer writes is read back as it was, with comments where they belong."""

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.pipelines.importing.writing import Commented, yaml_write
from tests.examples import examples

# What an imported file can have: no halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LINES = st.lists(TEXT, max_size=4).map("\n".join)
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8).filter(
    lambda key: key != "on"
)
VALUES = st.recursive(
    st.one_of(TEXT, LINES, st.booleans(), st.integers(0, 999)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=12,
)


def _commented(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: Commented(_commented(member), ["about it"]) for key, member in value.items()}
    return [Commented(_commented(entry), ["an\nentry"]) for entry in value] if isinstance(value, list) else value


@settings(max_examples=examples(30), deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_any_value_is_read_back_as_it_was(value: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_write(value, ["a comment"])) == value
    assert yaml.safe_load(yaml_write(_commented(value), [])) == value


def test_scripts_are_blocks_and_short_lists_are_on_one_line() -> None:
    written = yaml_write({"on": {"push": {}}, "run": "make\n\n  check\n", "needs": ["a", "b?"], "x": "yes"}, ["made"])
    assert written == ("# made\n\non:\n  push: {}\nrun: |\n  make\n\n    check\nneeds: [a, 'b?']\nx: 'yes'\n")
