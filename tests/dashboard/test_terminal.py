"""How the page renders the bytes of a log."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.dashboard.terminal import Style, terminal_html


def html(data: bytes) -> str:
    return terminal_html(data, style=Style(), last=True).html


def test_markup_in_a_log_is_text() -> None:
    assert html(b"<script>alert('x')</script> &amp;") == ("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp;amp;")


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert html(b"a\xff\xfeb") == "a\ufffd\ufffdb"


def test_colours_become_classes() -> None:
    assert html(b"\x1b[1;31mred\x1b[0m plain") == '<span class="sgr-bold sgr-colour-1">red</span> plain'


@pytest.mark.parametrize(
    ("data", "classes"),
    [
        (b"\x1b[92mx", "sgr-colour-2"),
        (b"\x1b[38;5;3mx", "sgr-colour-3"),
        (b"\x1b[38;5;200;1mx", "sgr-bold"),
        (b"\x1b[38;2;1;2;3;4mx", "sgr-underlined"),
        (b"\x1b[48;5;17mx", "sgr-marked"),
        (b"\x1b[1m\x1b[22;3mx", "sgr-italic"),
    ],
)
def test_each_kind_of_colour_sequence_is_rendered(data: bytes, classes: str) -> None:
    assert html(data) == f'<span class="{classes}">x</span>'


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[2K",
        b"\x1b[?25l",
        b"\x1b]0;title\x07",
        b"\x1b]8;;http://a.test\x1b\\",
        b"\x1b(B",
        b"\x1bM",
        b"\x07",
        b"\x00",
    ],
)
def test_control_sequences_other_than_styles_are_removed(sequence: bytes) -> None:
    assert html(b"a" + sequence + b"b") == "ab"


def test_an_unterminated_title_does_not_hide_the_next_line() -> None:
    assert html(b"\x1b]0;title\nnext line").endswith("\nnext line")


def test_a_bare_carriage_return_starts_a_new_line() -> None:
    assert html(b"10%\r20%\r\nend") == "10%\n20%\nend"


def test_bidirectional_control_characters_are_made_visible() -> None:
    assert html("a\u202eb".encode()) == "a\ufffdb"


def test_a_style_continues_in_the_next_slice() -> None:
    first = terminal_html(b"\x1b[32mgreen", style=Style(), last=False)
    second = terminal_html(b" and green", style=Style.parse(str(first.style)), last=True)
    assert second.html == '<span class="sgr-colour-2"> and green</span>'


@pytest.mark.parametrize("forged", ["1;31;x", '"><b>', "9" * 33, "²", "-1", ""])
def test_a_malformed_style_counts_as_plain(forged: str) -> None:
    assert Style.parse(forged) == Style()


def text_of(slices: Iterable[str]) -> str:
    return "".join(slices).replace('<span class="sgr-colour-1">', "").replace("</span>", "")


@given(
    st.lists(st.sampled_from([b"\x1b[31m", b"\x1b[0m", "é".encode(), "🙂".encode(), b"a", b"\r\n", b"\xff"])), st.data()
)
def test_cutting_a_log_anywhere_does_not_change_its_text(printed: list[bytes], choice: st.DataObject) -> None:
    data = b"".join(printed)
    whole = text_of([html(data)])
    slices, offset, style = [], 0, Style()
    read = 0
    while offset < len(data):
        read = min(len(data), read + choice.draw(st.integers(1, 5)))
        part = terminal_html(data[offset:read], style=style, last=read == len(data))
        slices.append(part.html)
        offset += part.consumed
        style = Style.parse(str(part.style))
    assert text_of(slices) == whole
