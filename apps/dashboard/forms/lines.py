"""Texts of forms that have one thing per line."""

import re

from django import forms

_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
# As the API has it.
MAX_PARAMETERS, MAX_PARAMETER = 50, 1000


def parameter_lines(text: str) -> dict[str, str]:
    """Lines of the form name=value as the values of parameters. Raises ValidationError."""
    given = value_lines(text, _PARAMETER, "name=value")
    if len(given) > MAX_PARAMETERS:
        raise forms.ValidationError(f"There can be at most {MAX_PARAMETERS} parameters.")
    for name, value in given.items():
        if len(value) > MAX_PARAMETER:
            raise forms.ValidationError(f"The value of {name} must have at most {MAX_PARAMETER:,} characters.")
    return given


def value_lines(text: str, name: re.Pattern[str], form: str) -> dict[str, str]:
    """The lines of a text as a mapping. Raises ValidationError with the number of a malformed line."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or not name.fullmatch(key.strip()):
            raise forms.ValidationError(f"Line {number} is not of the form {form}.")
        found[key.strip()] = value
    return found


def listed_lines(text: str) -> list[str]:
    """The lines that are not empty, without spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]
