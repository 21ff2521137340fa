"""Text of jobs and servers does nothing to a terminal but colour."""

import re

import pytest
from hci.text import LogText, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples

# What a terminal does not only print.
HOSTILE = {
    "the cursor moves": b"\x1b[2Jgone\x1b[1;1Hfirst\x1b[A",
    "a title": b"\x1b]0;root@production\x07text",
    "a link": b"\x1b]8;;https://evil.example/\x1b\\text\x1b]8;;\x1b\\",
    "the clipboard": b"\x1b]52;c;cm0gLXJmIH4=\x07text",
    "a question whose answer is typed": b"\x1b[6n\x1b[c\x05text",
    "a device string": b"\x1bP+q544e\x1b\\text",
    "another character set": b"\x1b(0text\x0e",
    "a sequence of C1": "\x9b2Jtext\x9d0;x\x9c".encode(),
    "a bell and a backspace": b"\x07\x08\x7ftext",
    "concealed and blinking": b"\x1b[8msecret\x1b[5m",
    "an endless title": b"\x1b]0;" + b"x" * 5000,
    "text in another order": "\u202etxet\u2066".encode(),
}
COLOURS_ONLY = r"(?:[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\x1b\[[0-9;]+m)*"


PIECES = [b"\x1b", b"[", b"]", b"0;", b"31m", b"2J", b"\x07", b"\\", b"a", b"\n", b"\r", b"\xc3"]


def shown(*parts: bytes, colour: bool = True) -> str:
    text = LogText(colour=colour)
    return "".join([*map(text.feed, parts), text.feed(b"", last=True)])


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_log_can_only_colour(data: bytes) -> None:
    assert re.fullmatch(COLOURS_ONLY, shown(data))
    assert "\x1b" not in shown(data, colour=False)
    # However it is cut into parts.
    assert shown(*(data[index : index + 1] for index in range(len(data)))) == shown(data)


def test_colours_are_kept_for_a_terminal_and_dropped_for_a_pipe() -> None:
    data = b"\x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[38;2;1;2;3mrgb\x1b[m\n"
    assert shown(data) == "\x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[38;2;1;2;3mrgb\x1b[0m\n"
    assert shown(data, colour=False) == "red orangergb\n"


def test_a_colour_that_is_left_on_ends_with_the_log() -> None:
    assert shown(b"\x1b[31mred") == "\x1b[31mred\x1b[0m"
    assert shown(b"\x1b[38;5;999mx\x1b[38;7mx\x1b[48m") == "x\x1b[7mx\x1b[0m"


def test_a_progress_bar_leaves_its_states_and_crlf_is_one_line_end() -> None:
    assert shown(b"10%\r50%\r", b"\nline\r", b"\nend") == "10%\n50%\nline\nend"


def test_bytes_that_are_not_utf8_become_replacement_characters_and_whole_characters_stay_whole() -> None:
    assert shown(b"gr\xc3", b"\xbcn \xff") == "grün \ufffd"


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.sampled_from([b"\x1b", b"[", b"]", b"0;", b"31m", b"2J", b"\x07", b"\\", b"a", b"\n", b"\r", b"\xc3"]))
)
def test_any_bytes_in_any_parts_only_colour_and_mean_the_same(pieces: list[bytes]) -> None:
    assert re.fullmatch(COLOURS_ONLY, shown(*pieces))
    assert shown(*pieces) == shown(b"".join(pieces))


def test_a_value_in_a_table_is_one_line_of_plain_text() -> None:
    assert plain("a\x1b[31mb\nc\x1b]0;t\x07d\u202ee") == "ab cd\ufffde"
    assert plain(None) == ""
    assert plain(3) == "3"
