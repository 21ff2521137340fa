"""Patterns of paths, branches and tags: ``*`` within a part, ``**`` for any number of parts, ``?`` for one character.

No regular expression is made of them: the time is at most the length of the pattern times that of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def glob_match(pattern: str, text: str) -> bool:
    """Whether the whole text is as the pattern says. Both have the parts that ``/`` separates."""
    return _match(pattern.split("/"), text.split("/"), "**", _part_matches)


def _part_matches(pattern: str, part: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == part
    return _match(pattern, part, "*", lambda expected, found: expected in ("?", found))


def _match(pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Match entry by entry. On a mismatch, the last star takes one entry more; earlier stars need no second try."""
    at = star_at = star_end = 0
    has_star, position = False, 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == star:
            has_star, star_at, star_end = True, at, position
            at += 1
        elif at < len(pattern) and same(pattern[at], text[position]):
            at += 1
            position += 1
        elif has_star:
            star_end += 1
            at, position = star_at + 1, star_end
        else:
            return False
    return all(entry == star for entry in pattern[at:])
