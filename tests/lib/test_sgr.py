"""Colours and styles of terminal output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.lib.sgr import PLAIN, Style, nearest_colour, style_after


@pytest.mark.parametrize(
    ("parameters", "style"),
    [
        ("1;31", Style(bold=True, colour=1)),
        ("97;100", Style(colour=15, background=8)),
        ("38;5;200;1", Style(bold=True, colour=200)),
        ("48:5:17", Style(background=17)),
        ("38;2;1;2;3;4", Style(colour=16, underlined=True)),
        ("38;5", PLAIN),
        ("38;5;300", PLAIN),
        ("1;22;3", Style(italic=True)),
        ("2;3;4;7;9", Style(dim=True, italic=True, underlined=True, inverse=True, struck=True)),
        ("2;3;4;7;9;22;23;24;27;29", PLAIN),
        ("31;41;39", Style(background=1)),
        ("31;41;49", Style(colour=1)),
        ("31;0;4", Style(underlined=True)),
        ("", PLAIN),
        ("5;300", PLAIN),
    ],
)
def test_each_parameter_sets_or_ends_its_style(parameters: str, style: Style) -> None:
    assert PLAIN.after(parameters) == style


@pytest.mark.parametrize(
    ("components", "colour"),
    [((0, 0, 0), 16), ((255, 255, 255), 231), ((255, 0, 0), 196), ((128, 128, 128), 244), ((95, 135, 175), 67)],
)
def test_a_colour_by_components_is_the_nearest_of_256(components: tuple[int, int, int], colour: int) -> None:
    assert nearest_colour(*components) == colour


@pytest.mark.parametrize("forged", ["1;31;x", '"><b>', "9" * 65, "²", "-1", ""])
def test_a_malformed_style_counts_as_plain(forged: str) -> None:
    assert Style.parse(forged) == PLAIN


_SEQUENCES = st.sampled_from([b"\x1b[1m", b"\x1b[31m", b"\x1b[48;5;200m", b"\x1b[m", b"\x1b[0m", b"\x1b[38;2;9;9;200m"])
_PIECES = st.lists(_SEQUENCES | st.sampled_from([b"text", b"\n", b"\x1b[2K", b"\x1b"]))


@given(_PIECES, _PIECES)
def test_the_style_after_two_texts_is_that_after_one_and_then_the_other(
    first: list[bytes], second: list[bytes]
) -> None:
    one, other = b"".join(first), b"".join(second)
    style = style_after(one, PLAIN)
    assert style_after(one + other, PLAIN) == style_after(other, style)
    assert Style.parse(str(style)) == style
