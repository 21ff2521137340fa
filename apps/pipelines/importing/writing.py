"""Values as YAML for people: scripts as blocks, short lists on one line, comments before what they are about."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

_WIDTH = 110
_INDENT = "  "
# Members of a mapping that is written on one line.
_MAX_FLOW = 3
# What YAML takes in a block as it is, beside printable characters.
_IN_BLOCKS = "\t\n"


@dataclass(frozen=True)
class Commented:
    """A value with comments before its key or its list entry."""

    value: Any
    comments: list[str] = field(default_factory=list)


def yaml_write(value: dict[str, Any], comments: list[str]) -> str:
    """The text of a document. Members may be text, whole numbers, True or False, lists, mappings and Commented."""
    lines = [*_comments(comments, ""), *([""] if comments else []), *_mapping(value, "", blank_between=True)]
    return "\n".join(lines) + "\n"


def _mapping(value: dict[str, Any], indent: str, *, blank_between: bool = False) -> list[str]:
    lines: list[str] = []
    for key, member in value.items():
        plain, comments = _apart(member)
        # Jobs are easier to read with space between them.
        if lines and blank_between and isinstance(plain, dict) and plain:
            lines.append("")
        lines.extend(_comments(comments, indent))
        lines.extend(_member(f"{indent}{_key(key)}:", plain, indent, spread=blank_between and key == "jobs"))
    return lines


def _member(start: str, value: Any, indent: str, *, spread: bool = False) -> list[str]:
    short = _short(value)
    if short is not None and len(start) + len(short) < _WIDTH:
        return [f"{start} {short}"]
    if isinstance(value, str) and (block := _block(value, indent + _INDENT)):
        return [f"{start} {block[0]}", *block[1:]]
    if isinstance(value, dict) and value:
        return [start, *_mapping(value, indent + _INDENT, blank_between=spread)]
    if isinstance(value, list) and value:
        return [start, *_list(value, indent + _INDENT)]
    return [f"{start} {_flow(value)}"]


def _list(value: list[Any], indent: str) -> list[str]:
    lines: list[str] = []
    for entry in value:
        plain, comments = _apart(entry)
        lines.extend(_comments(comments, indent))
        short = None if isinstance(entry, Commented) else _short(plain)
        if isinstance(plain, dict) and plain and (short is None or len(short) > _WIDTH - len(indent)):
            inner = _mapping(plain, indent + _INDENT)
            first = next(number for number, line in enumerate(inner) if not line.lstrip().startswith("#"))
            lines.extend(line[len(_INDENT) :] for line in inner[:first])
            lines.append(f"{indent}- {inner[first].lstrip()}")
            lines.extend(inner[first + 1 :])
        else:
            lines.append(f"{indent}- {short or _short(plain) or _flow(plain)}")
    return lines


def _apart(value: Any) -> tuple[Any, list[str]]:
    return (value.value, value.comments) if isinstance(value, Commented) else (value, [])


def _comments(comments: list[str], indent: str) -> list[str]:
    lines = []
    for comment in comments:
        printable = "".join(character if character.isprintable() else "?" for character in comment)
        start = f"{indent}# "
        wrapped = textwrap.wrap(printable, _WIDTH, initial_indent=start, subsequent_indent=f"{indent}#   ")
        lines.extend(wrapped or [f"{indent}#"])
    return lines


def _short(value: Any, *, inside: bool = False) -> str | None:
    """The value on one line, if it looks well there. `inside`: within brackets."""
    if isinstance(value, list):
        parts = [_short(entry, inside=True) for entry in value]
        return None if None in parts else f"[{', '.join(str(part) for part in parts)}]"
    if isinstance(value, dict):
        if len(value) > _MAX_FLOW or any(isinstance(member, dict) for member in value.values()):
            return None
        members = {key: _short(member, inside=True) for key, member in value.items()}
        if None in members.values():
            return None
        return "{" + ", ".join(f"{_key(key, inside=True)}: {part}" for key, part in members.items()) + "}"
    if isinstance(value, Commented) or (isinstance(value, str) and "\n" in value):
        return None
    return _flow(value, inside=inside)


def _flow(value: Any, *, inside: bool = False) -> str:
    """Any value on one line, however it looks there."""
    value, _ = _apart(value)
    if isinstance(value, dict):
        members = (f"{_key(key, inside=True)}: {_flow(member, inside=True)}" for key, member in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(entry, inside=True) for entry in value) + "]"
    return _text(value, inside=inside) if isinstance(value, str) else str(value).lower()


def _key(key: str, *, inside: bool = False) -> str:
    # YAML 1.1 took a plain `on` for true; in a pipeline file it is text however it is written.
    return key if key == "on" else _text(key, inside=inside)


@lru_cache(maxsize=4096)
def _text(text: str, *, inside: bool = False) -> str:
    if "\n" in text or not text.isprintable():
        return _double_quoted(text)
    written = str(
        yaml.dump([text] if inside else text, width=float("inf"), allow_unicode=True, default_flow_style=True)
    )
    return written.removesuffix("\n")[1:-1] if inside else written.removesuffix("\n").removesuffix("\n...")


def _double_quoted(text: str) -> str:
    written = yaml.dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return str(written).removesuffix("\n")


def _block(text: str, indent: str) -> list[str]:
    """A literal block of several lines, or nothing where YAML would read it differently."""
    if "\n" not in text or not all(character in _IN_BLOCKS or character.isprintable() for character in text):
        return []
    body = text.rstrip("\n")
    if not body or body != body.rstrip(" \t"):
        return []
    lines = body.split("\n")
    number = "2" if lines[0][:1] in ("", " ", "\t") else ""
    after = len(text) - len(body)
    chomp = "-" if after == 0 else "" if after == 1 else "+"
    return [f"|{number}{chomp}", *(f"{indent}{line}" if line else "" for line in lines), *[""] * (after - 1)]
