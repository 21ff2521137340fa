"""How the page shows a line of a log."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.dashboard.terminal import MAX_PARTS, line_html
from controlplane.lib.sgr import PLAIN, Style


def shown(data: bytes, style: Style = PLAIN) -> str:
    return str(line_html(data, style))


def text(data: bytes) -> str:
    """What a person reads."""
    return html.unescape(re.sub(r"<[^>]+>", "", shown(data)))


def test_markup_in_a_log_is_text() -> None:
    assert shown(b"<script>alert('x')</script> &amp;") == "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp;amp;"


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert shown(b"a\xff\xfeb") == "a\ufffd\ufffdb"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x1b[1;31mred\x1b[0m plain", '<span class="t-bold f1">red</span> plain'),
        (b"\x1b[92mx", '<span class="f10">x</span>'),
        (b"\x1b[38;5;200;1mx", '<span class="t-bold f200">x</span>'),
        (b"\x1b[38;2;255;0;0;4mx", '<span class="t-underlined f196">x</span>'),
        (b"\x1b[48;5;17mx", '<span class="b17">x</span>'),
        (b"\x1b[7mx\x1b[27my", '<span class="t-inverse">x</span>y'),
    ],
)
def test_each_kind_of_colour_becomes_a_class(data: bytes, expected: str) -> None:
    assert shown(data) == expected


def test_a_line_begins_in_the_style_of_the_text_before_it() -> None:
    assert shown(b"red\x1b[0m", Style(colour=1)) == '<span class="f1">red</span>'


@pytest.mark.parametrize(
    "sequence",
    [b"\x1b[?25l", b"\x1b]0;title\x07", b"\x1b]8;;http://a.test\x1b\\", b"\x1b(B", b"\x1bM", b"\x07", b"\x00"],
)
def test_other_control_sequences_print_nothing(sequence: bytes) -> None:
    assert shown(b"a" + sequence + b"b") == "ab"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"10%\r20%\r100%", "100%"),
        (b"long text\rshort", "shorttext"),
        (b"line end\r", "line end"),
        (b"abc\x08\x08XY", "aXY"),
        (b"\x08a", "a"),
        (b"old text\r\x1b[Knew", "new"),
        (b"old\x1b[2K\rnew", "new"),
        (b"abc\x1b[2D\x1b[K", "a"),
        (b"abcdef\x1b[3G\x1b[1K", "   def"),
        (b"abc\x1b[1G\x1b[2Cx", "abx"),
        (b"abcdef\x1b[1G\x1b[2P", "cdef"),
        (b"abcdef\x1b[1G\x1b[2X", "  cdef"),
        (b"a\x1b[5Cb", "a     b"),
    ],
)
def test_a_line_is_what_the_screen_showed_in_the_end(data: bytes, expected: str) -> None:
    assert text(data) == expected


def test_colours_stay_with_the_cells_they_were_printed_in() -> None:
    assert shown(b"\x1b[31mred\x1b[0m\rR") == 'R<span class="f1">ed</span>'


def test_a_million_carriage_returns_are_one_short_line() -> None:
    assert text(b"\r" * 8_000 + b"x\r" * 4_000) == "x"


def test_a_cursor_far_to_the_right_makes_no_long_line() -> None:
    assert len(text(b"\x1b[999999999Cx\r")) == 20_001


def test_characters_that_change_the_direction_of_text_are_made_visible() -> None:
    assert text("a\u202eb\u2066c".encode()) == "a\ufffdb\ufffdc"


def test_addresses_of_the_web_become_links_and_nothing_else_does() -> None:
    assert shown(b"see https://example.com/x?a=1&b=%22.") == (
        'see <a href="https://example.com/x?a=1&amp;b=%22" rel="noopener noreferrer nofollow" target="_blank">'
        "https://example.com/x?a=1&amp;b=%22</a>."
    )
    for other in (b"javascript:alert(1)", b"ftp://example.com", b"file:///etc", b"http:/x"):
        assert "<a" not in shown(other)


def test_an_address_cannot_leave_its_attribute() -> None:
    (tag,) = re.findall(r"<a [^>]*>", shown(b'https://a.test/"onmouseover=alert(1) x'))
    assert tag == '<a href="https://a.test/" rel="noopener noreferrer nofollow" target="_blank">'


@given(
    st.lists(
        st.sampled_from(
            [b"\x1b[31m", b"\x1b[0m", b"\r", b"\x08", b"\x1b[K", b"\x1b[2C", b"a", "é".encode(), b"<", b"\xff", b"\x1b"]
        )
    )
)
def test_whatever_is_printed_is_safe(printed: list[bytes]) -> None:
    tags = re.findall(r"<[^>]*>", shown(b"".join(printed)))
    assert all(re.fullmatch(r'</?span(?: class="[\w -]+")?>', tag) for tag in tags)


@pytest.mark.parametrize("piece", [b"\x1b[31mx\x1b[32my", b"http://a.test ", b"\x1b[31mx\r\x1b[32my\x1b[2C"])
def test_a_line_of_many_colours_or_links_has_a_bounded_number_of_elements(piece: bytes) -> None:
    data = piece * 1000
    assert shown(data).count("</") <= MAX_PARTS + 1
    assert len(text(data)) >= len(text(piece)) * 900 or b"\r" in piece
