"""In which forms a secret value can appear in a log: as it is, and as programs encode, escape and quote it."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

# Shorter ones, and their lines, are not looked for in encodings: chance would mask too much.
LEAST_ENCODED = 8

_BORDER = "\0"
_LINES = re.compile(r"\r\n|[\n\r]")
_ESCAPED_BY_BASH = re.compile(r"""[ !"$&'()*,;<>?\[\\\]^`{|}]""")
_ESCAPED_IN_DOUBLE_QUOTES = re.compile(r'["$`\\]')
_NAMED_CONTROLS = {
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    "\x1b": "\\E",
}
_DOLLAR_QUOTED = re.compile(r"[\\'\x00-\x1f\x7f]")
_DOLLAR_QUOTED_ASCII = re.compile(r"[\\'\x00-\x1f\x7f]|[^\x00-\x7f]")
# What encodeURIComponent and encodeURI of JavaScript and URLEncoder of Java leave as it is, beside letters and digits.
_SAFE_IN_URLS = ("", "/", "!'()*~", "!'()*~;,/?:@&=+$#", "*")
# What JSON encoders escape though they need not: those of Go and .NET, and one that escapes all but letters and digits.
_ESCAPED_IN_JSON = (
    re.compile(r"(?!)"),
    re.compile(r"\\[^\"]|[<>&]"),
    re.compile(r"\\[^\"]|\\\"|[<>&'+`]"),
    re.compile(r"\\u[0-9a-f]{4}|\\[^\"]|\\\"|[ -/:-@\[-`{-~]"),
)


@dataclass(frozen=True)
class Form:
    """Bytes that stand for a value. If they are `wrapped`, line breaks may be anywhere between them.

    `before` and `after`: also the one character there has bits of the value.
    """

    text: bytes
    wrapped: bool = False
    before: bool = False
    after: bool = False


def secret_forms(value: str) -> set[Form]:
    """The forms of a value, and those of its lines. White space around it is not part of it."""
    stripped = value.strip()
    whole = stripped if len(stripped) >= LEAST_ENCODED else value
    if not stripped:
        return set()
    texts = [whole]
    lines = _LINES.split(whole)
    if len(lines) > 1:
        texts += ["\n".join(lines), "\r\n".join(lines)]
        texts += {line.strip() for line in lines if len(line.strip()) >= LEAST_ENCODED}
    forms = {Form(text) for text in _escaped(texts)}
    if len(whole) >= LEAST_ENCODED:
        forms |= {*_base64(_bytes(whole)), *_hexadecimal(_bytes(whole))}
    return forms


def _bytes(text: str) -> bytes:
    """A value may have bytes that are no UTF-8, as `surrogateescape` decodes them."""
    return text.encode("utf-8", "surrogateescape")


def _escaped(texts: list[str]) -> set[bytes]:
    """The texts themselves, and as URLs, JSON, shells, Python, XML and HTML have them."""
    # All at once, since there may be thousands of lines. No text has a null character: programs could not get it.
    joined = _BORDER.join(text.replace(_BORDER, "") for text in texts)
    return {
        _bytes(text)
        for make in (_in_urls, _in_json, _in_shells, _in_code)
        for escaped, border in zip(make(joined), make(_BORDER))
        for text in escaped.split(border)
        if text
    }


def _in_urls(value: str) -> Iterator[str]:
    escaped = quote(value, safe="", errors="surrogateescape")
    for safe in _SAFE_IN_URLS:
        made = escaped
        for character in safe:
            made = made.replace(f"%{ord(character):02X}", character)
        for text in (
            made,
            made.replace("%20", "+"),
            made.replace("~", "%7E"),
            made.replace("%20", "+").replace("~", "%7E"),
        ):
            yield text
            yield re.sub("%..", lambda match: match[0].lower(), text)


def _in_json(value: str) -> Iterator[str]:
    yield value
    for is_ascii in (True, False):
        plain = json.dumps(value, ensure_ascii=is_ascii)[1:-1]
        # JSON as a text within JSON.
        yield json.dumps(plain, ensure_ascii=False)[1:-1]
        for more in _ESCAPED_IN_JSON:
            made = more.sub(_json_escape, plain)
            for text in (made, made.replace("/", "\\/")):
                yield text
                yield re.sub(r"\\u[0-9a-f]{4}", lambda match: "\\u" + match[0][2:].upper(), text)
    units = value.encode("utf-16-be", "surrogatepass").hex("-", 2)
    for digits in (units, units.upper()):
        yield "\\u" + digits.replace("-", "\\u")


def _json_escape(match: re.Match[str]) -> str:
    r"""A character as JSON's \u writes it, or an escape sequence as it is, unless it is that of a quotation mark."""
    found = match[0]
    return found if len(found) > 1 and found != '\\"' else f"\\u{ord(found[-1]):04x}"


def _in_shells(value: str) -> Iterator[str]:
    """Within quotes of sh and bash, and as `set -x`, `printf %q` and `ls` print it."""
    for single in ("'\"'\"'", "'\\''"):
        text = value.replace("'", single)
        yield text
        yield text.replace("\n", "'$'\\n''").replace("\t", "'$'\\t''")
    yield _ESCAPED_IN_DOUBLE_QUOTES.sub(r"\\\g<0>", value)
    backslashed = _ESCAPED_BY_BASH.sub(r"\\\g<0>", value)
    yield backslashed
    yield re.sub(r"\A[#~]|(?<=[:=])~", r"\\\g<0>", backslashed)
    for special in (_DOLLAR_QUOTED, _DOLLAR_QUOTED_ASCII):
        yield special.sub(_dollar_quoted, value)


def _dollar_quoted(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\\'":
        return f"\\{character}"
    named = _NAMED_CONTROLS.get(character)
    return named or "".join(f"\\{byte:03o}" for byte in _bytes(character))


def _in_code(value: str) -> Iterator[str]:
    """As Python's repr has it, and as XML and HTML do."""
    for made in (repr(value), repr(_bytes(value)), ascii(value)):
        text = made.lstrip("b")[1:-1]
        yield text
        # repr chooses the quotes by the text around the value, too.
        yield text.replace("\\'", "'").replace("'", "\\'")
    for quoted in (False, True):
        text = html.escape(value, quote=quoted)
        yield text
        yield text.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        yield text.replace("&#x27;", "&apos;")


def _base64(value: bytes) -> Iterator[Form]:
    """The characters that the value alone decides, for each place that it can have in groups of three bytes."""
    for before in range(3):
        text = b64encode(bytes(before) + value)
        # Of the first character after those of the bytes before, only some bits are the value's.
        begin = -(-before * 8 // 6)
        end = (before + len(value)) * 8 // 6
        core = text[begin:end]
        partly = (before + len(value)) % 3 != 0
        for made in {core, core.translate(bytes.maketrans(b"+/", b"-_"))}:
            yield Form(made, wrapped=True, before=before > 0, after=partly)


def _hexadecimal(value: bytes) -> Iterator[Form]:
    text = value.hex().encode()
    yield Form(text, wrapped=True)
    yield Form(text.upper(), wrapped=True)
