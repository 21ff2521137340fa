"""Secret values in output become `***`, whatever form they have and wherever the pieces of output begin and end."""

from __future__ import annotations

import base64
import html
import json
import os
import random
import re
import shlex
import shutil
import string
import subprocess
import textwrap
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest

from agent.masking import MaskedStream, Masks

TOKEN = "hce_Zk3-w/Q+9=Lp$0'x\"y"
PEM = "\n".join(
    [
        "-----BEGIN PRIVATE KEY-----",
        *textwrap.wrap(base64.b64encode(bytes(range(7, 207))).decode(), 64),
        *("Zm9v", "-----END PRIVATE KEY-----", ""),
    ]
)


def masks_of(*values: str) -> Masks:
    masks = Masks()
    masks.add(values)
    return masks


def through(masks: Masks, *pieces: bytes) -> bytes:
    stream = MaskedStream(masks)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.end()])


# --- forms ----------------------------------------------------------------------------------------------------------


def wrapped(text: str, width: int, ending: str = "\n") -> str:
    return ending.join(text[at : at + width] for at in range(0, len(text), width))


def b64(value: str, before: bytes = b"") -> str:
    return base64.b64encode(before + value.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "crlf": lambda value: value.replace("\n", "\r\n"),
    "base64": b64,
    "base64 without padding": lambda value: b64(value).rstrip("="),
    "base64 in 76 columns": lambda value: wrapped(b64(value), 76),
    "base64 in 64 columns of Windows": lambda value: wrapped(b64(value), 64, "\r\n"),
    "base64 in YAML": lambda value: wrapped(b64(value), 40, "\n    "),
    "base64 after one byte": lambda value: b64(value, b":"),
    "base64 after two bytes": lambda value: b64(value, b"a:"),
    "base64 in the middle of lines": lambda value: wrapped(b64(value + "\nrest of the file", b"user: adm\n"), 76),
    "base64 in short lines": lambda value: wrapped(b64(value, b"u:"), 9),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 for URLs without padding": lambda value: (
        base64.urlsafe_b64encode(b"x" + value.encode()).decode().rstrip("=")
    ),
    "hexadecimal": lambda value: value.encode().hex(),
    "hexadecimal, capital": lambda value: value.encode().hex().upper(),
    "xxd -p": lambda value: wrapped(value.encode().hex(), 60),
    "quote": lambda value: quote(value, safe=""),
    "quote, small letters": lambda value: re.sub("%..", lambda match: match[0].lower(), quote(value, safe="")),
    "path of a URL": quote,
    "quote_plus": quote_plus,
    "form": lambda value: urlencode({"field": value}),
    "encodeURIComponent": lambda value: quote(value, safe="!'()*~"),
    "JSON": json.dumps,
    "JSON with all characters": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON with \\/": lambda value: json.dumps(value).replace("/", "\\/"),
    "JSON in JSON": lambda value: json.dumps(json.dumps({"value": value}, ensure_ascii=False), ensure_ascii=False),
    "JSON in capital escapes": lambda value: re.sub("(....)", r"\\u\1", value.encode("utf-16-be").hex().upper()),
    "JSON of Go": lambda value: (
        json.dumps(value).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    "shlex": shlex.quote,
    "double quotes": lambda value: '"' + "".join(f"\\{one}" if one in '"$`\\' else one for one in value) + '"',
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "XML": lambda value: html.escape(value, quote=False),
}

LETTERS = string.ascii_letters + string.digits
ALPHABETS = (
    LETTERS,
    LETTERS + "+/=",
    LETTERS + "-_.~",
    string.printable.strip() + " ",
    "äöü€漢😀" + LETTERS + "'\"\\/&<>%$`!",
    "ab",
)


def value_of(draw: random.Random) -> str:
    """A random value: a token, a passphrase, a value that repeats itself, or one of several lines."""
    alphabet = draw.choice(ALPHABETS)
    size = draw.choice((8, 9, 10, 16, 20, 40, 40, 64, 300))
    text = "".join(draw.choice(alphabet) for _ in range(size)).strip()
    if draw.random() < 0.25:
        text = "\n".join(
            [text, *("".join(draw.choice(alphabet) for _ in range(draw.choice((3, 30, 64)))) for _ in "abc")]
        )
    return text if len(text.strip()) >= 8 else text + "Xy7!Xy7!"


def pieces_of(draw: random.Random, data: bytes) -> list[bytes]:
    if draw.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((0, 1, 2, 5, 20))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def leaks(encoded: str, value: str, output: bytes) -> str:
    """A part of the encoded value in the output that is too long to be there by chance."""
    joined = output.decode(errors="replace").replace("\r\n", "\n").replace("\n    ", "").replace("\n", "")
    parts = [line.strip() for line in value.split("\n")] if "\n" in value else [value]
    needles = {encoded.replace("\r\n", "\n").replace("\n    ", "").replace("\n", ""), *parts}
    for needle in needles:
        if len(needle) >= 8 and needle in joined:
            return needle
    return ""


def fuzz(count: int, seed: int) -> int:
    """Run so many random cases. Returns how many forms of values they had."""
    draw = random.Random(seed)
    names = list(FORMS)
    for number in range(count):
        values = [value_of(draw) for _ in range(draw.choice((1, 1, 1, 5)))]
        value, name = draw.choice(values), draw.choice(names)
        encoded = FORMS[name](value)
        before, after = (draw.choice(("", "§", "token: ", "| ", "x\n", "::" * 30, "\n\n")) for _ in range(2))
        data = f"{before}{encoded}{after}".encode()
        stream = MaskedStream(masks_of(*values))
        out = []
        for piece in pieces_of(draw, data):
            out.append(stream.feed(piece))
            if draw.random() < 0.2:
                out.append(stream.release())
        out.append(stream.end())
        output = b"".join(out)
        case = f"case {number} of {seed}: {name} of {value!r}: {output!r}"
        core = core_of(name, value)
        assert not leaks(core, value, output), case
        assert b"***" in output, case
        if "base64" not in name:
            assert output.startswith(before.encode()[:3]), case
            assert output.endswith(after.encode()[-3:]) or name == "form", case
    return count


def core_of(name: str, value: str) -> str:
    """What must not be in the output: the encoded value without what was encoded with it."""
    if not name.startswith("base64"):
        return FORMS[name](value).strip("\"'").removeprefix("field=").removeprefix("b'")
    before = {"base64 after one byte": b":", "base64 after two bytes": b"a:", "base64 in short lines": b"u:"}.get(
        name, b""
    )
    if "middle" in name:
        before = b"user: adm\n"
    if name == "base64 for URLs without padding":
        before = b"x"
    text = b64(value, before)
    if "URLs" in name:
        text = text.replace("+", "-").replace("/", "_")
    return text[-(-len(before) * 8 // 6) : (len(before) + len(value.encode())) * 8 // 6]


@pytest.mark.parametrize("count", [150, pytest.param(100_000, marks=pytest.mark.nightly)])
def test_values_in_all_forms_are_masked_across_the_borders_of_pieces(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    done = fuzz(count, seed=count)
    with capsys.disabled():
        print(f"\n{done:,} random values in {len(FORMS)} forms and pieces of random sizes: all masked")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n  "])
@pytest.mark.parametrize("value", ["JcvMQp/j", "JcvMQp/jk"])
def test_a_short_value_is_found_wherever_a_line_and_a_piece_of_output_end_within_its_base64(
    value: str, ending: str
) -> None:
    masks = masks_of(value)
    for before in ("", ".", "..", "..."):
        for prefix in (b"", b"u", b"u:"):
            text = b64(value, prefix)
            core = text[-(-len(prefix) * 8 // 6) : (len(prefix) + len(value)) * 8 // 6]
            for line_end in range(1, len(text)):
                data = f"{before}{text[:line_end]}{ending}{text[line_end:]}\n".encode()
                for cut in range(0, len(data), 3):
                    output = through(masks, data[:cut], data[cut:])
                    assert core not in output.replace(ending.encode(), b"").decode(), (data, cut)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [TOKEN, PEM])
def test_each_form_is_masked_whole_and_the_rest_stays(name: str, value: str) -> None:
    encoded = FORMS[name](value)
    output = through(masks_of(value), f"§ {encoded} §\n".encode())
    assert output.startswith("§ ".encode())
    assert output.endswith(" §\n".encode())
    assert not leaks(core_of(name, value), value, output)
    assert output.count(b"***") == 1
    # What is left are quotes, the names of fields, and what was encoded beside the value.
    assert len(output) < 60


SHELLS = {
    "bash %q": ["bash", "-c", 'printf "%q\\n" "$V"'],
    "bash @Q": ["bash", "-c", 'printf "%s\\n" "${V@Q}"'],
    "bash -x": ["bash", "-xc", 'true "$V"; W="$V"; [ "$V" = x ]'],
    "bash declare": ["bash", "-c", "declare -p V"],
    "bash export": ["bash", "-c", "export -p"],
    "sh -x": ["sh", "-xc", 'true "$V"; W="$V"; [ "$V" = x ]'],
    "sh export": ["sh", "-c", "export -p"],
    "sh set": ["sh", "-c", "set"],
    "env": ["env"],
    "base64": ["sh", "-c", 'echo "$V" | base64; printf "user:%s" "$V" | base64 -w0'],
    "od": ["sh", "-c", 'printf %s "$V" | od -An -v -tx1 | tr -d " \\n"; printf %s "$V" | od -An -v -tx1 | tr -d " "'],
}
VALUES = [
    "it's a 'test' ~x",
    TOKEN,
    'say "hi" $HOME `id` \\ !',
    "#~~~ :~/ {a,b} [c]*",
    "pässwörter-€uro",
    "tab\there\x1b[0m\x07!",
    PEM,
]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("language", ["C", "C.UTF-8"])
def test_what_real_shells_print_of_a_value_is_masked(name: str, language: str) -> None:
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"this machine has no {SHELLS[name][0]}")
    for value in VALUES:
        env = {"PATH": os.environ["PATH"], "LC_ALL": language, "V": value}
        done = subprocess.run(SHELLS[name], env=env, capture_output=True, check=False)
        printed = done.stdout + done.stderr
        output = through(masks_of(value), printed)
        assert b"***" in output, printed
        # Words of the value that are long enough to be none of something else.
        for word in re.findall(r"[A-Za-z0-9+/]{5,}", value):
            if word not in ("PRIVATE", "BEGIN"):
                assert word.encode() not in output, (printed, output)


# --- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(len("token-1234567890") + 1))
def test_no_more_than_three_bytes_of_a_value_leave_before_the_rest_comes(first: int) -> None:
    value = "token-1234567890"
    stream = MaskedStream(masks_of(value))
    before = stream.feed(f"x: {value[:first]}".encode()) + stream.release()
    assert before == f"x: {value[: first if first < 4 else 0]}".encode() or first == len(value)
    after = stream.feed(f"{value[first:]} y\n".encode()) + stream.end()
    shown = value[:first] if first < 4 else ""
    assert before + after == f"x: {shown}*** y\n".encode()


def test_a_value_that_comes_byte_by_byte_with_pauses_is_masked_from_its_fourth_byte_on() -> None:
    value = "correct-horse-battery"
    stream = MaskedStream(masks_of(value))
    output = b"".join(stream.feed(bytes([byte])) + stream.release() for byte in f"> {value} <".encode())
    assert output + stream.end() == b"> cor*** <"


def test_output_that_begins_like_a_value_is_put_out_when_it_turns_out_to_be_none() -> None:
    stream = MaskedStream(masks_of("token-1234567890"))
    assert stream.feed(b"a token-12345") == b"a "
    assert not stream.waits
    assert stream.feed(b"x and so on") == b"token-12345x and so on"


def test_a_progress_display_waits_for_nothing() -> None:
    stream = MaskedStream(masks_of("token-1234567890", PEM, TOKEN))
    for percent in range(100):
        shown = f"\rdownloading {percent} % [{'=' * percent}".encode()
        assert stream.feed(shown) + stream.release() == shown
        assert not stream.waits


def test_the_beginning_of_a_value_at_the_end_of_the_output_is_masked() -> None:
    stream = MaskedStream(masks_of("token-1234567890"))
    assert stream.feed(b"it is token-1234") + stream.end() == b"it is ***"
    assert stream.feed(b"the next step: tok") + stream.end() == b"the next step: tok"


def test_values_that_overlap_or_follow_each_other_are_masked() -> None:
    masks = masks_of("abcdefgh12345678", "12345678ABCDEFGH", "abcdefgh1234567890")
    assert through(masks, b"-abcdefgh12345678ABCDEFGH-") == b"-***-"
    assert through(masks, b"-abcdefgh12345", b"67890-abcdefgh12345678abcdefgh12345678-") == b"-***-******-"
    assert through(masks_of("aaaaaaaa"), b"-" + b"a" * 50_000 + b"-") == b"-***-"


def test_lines_of_a_value_are_masked_alone_if_they_have_eight_characters() -> None:
    masks = masks_of("first-line-1\n  short\n\tlast-line-23\r\n")
    assert through(masks, b"  first-line-1\nshort\nlast-line-23\n") == b"  ***\nshort\n***\n"


def test_a_value_that_is_added_later_is_masked_from_then_on() -> None:
    masks = masks_of("first-value-1")
    stream = MaskedStream(masks)
    assert stream.feed(b"first-value-1 second-value-2 ") == b"*** second-value-2 "
    masks.add(["second-value-2"])
    assert stream.feed(b"first-value-1 second-value-2 ") == b"*** *** "


def test_white_space_alone_and_nothing_are_no_values() -> None:
    masks = masks_of("", "        ", "\n\n\n\n\n\n\n\n")
    assert not masks
    assert masks.mask(b"some        text") == b"some        text"


def test_a_whole_text_is_masked_and_keeps_what_only_begins_like_a_value() -> None:
    masks = masks_of("token-1234567890")
    assert masks.mask_text("git: token-1234567890 refused, token-123") == "git: *** refused, token-123"
    assert masks.covers("x token-1234567890")
    assert not masks.covers("x token-123456789")


def test_masking_is_fast(capsys: pytest.CaptureFixture[str]) -> None:
    line = "2026-11-27T02:14:18Z INFO worker[%d] building //src/app:lib (%d of 3200): gcc -O2 -c foo_%d.c -o foo.o\n"
    data = "".join(line % (number, number, number) for number in range(20_000)).encode()
    draw = random.Random(1)
    values = ["".join(draw.choice(LETTERS + "+/=-_%$ ") for _ in range(40)) for _ in range(20)]
    rates = {}
    for count in (0, 20):
        stream = MaskedStream(masks_of(*values[:count]))
        began = time.process_time()
        size = sum(len(stream.feed(data[at : at + 65536])) for at in range(0, len(data), 65536)) + len(stream.end())
        rates[count] = size / 1e6 / max(time.process_time() - began, 1e-6)
        assert size == len(data)
    with capsys.disabled():
        print(f"\nmasking: {rates[20]:.0f} MB/s with 20 secrets; without any, output passes as it is")
    assert rates[0] > 1000
    assert rates[20] > 10
