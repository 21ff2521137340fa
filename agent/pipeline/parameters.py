"""The values that a run gives to the parameters of its pipeline."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Optional, Union

from agent.pipeline.definition import Parameter, Value

PARAMETER_TYPES = ("text", "number", "choice", "flag")
MAX_TEXT = 1000

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")


class ParametersInvalid(Exception):
    """`problems` has a message for each parameter that is wrong; each continues the parameter's name."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {message}" for name, message in self.problems.items()))


def parameters_values(parameters: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, Value]:
    """The value of each parameter: what is given, as text or of its type, or its default. Raises ParametersInvalid."""
    taken = {name: value for name, value in given.items() if value is not None or name not in parameters}
    problems = parameters_problems(parameters, taken)
    problems |= {name: "must be given" for name, known in parameters.items() if known.required and name not in taken}
    if problems:
        raise ParametersInvalid(problems)
    return {
        name: parameter_value(known, taken[name]) if name in taken else parameter_default(known)
        for name, known in parameters.items()
    }


def parameters_problems(parameters: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, str]:
    """What is wrong with the values, by the names; each message continues the name."""
    problems = {}
    for name, value in given.items():
        if name not in parameters:
            problems[name] = _unknown(name, parameters)
            continue
        try:
            parameter_value(parameters[name], value)
        except ValueError as error:
            problems[name] = str(error)
    return problems


def parameter_default(parameter: Parameter) -> Value:
    """The value if none is given: without a default, empty text, 0, false, or the first option."""
    if parameter.default is not None:
        return parameter.default
    empty: dict[str, Value] = {"number": 0, "flag": False, "choice": (parameter.options or [""])[0]}
    return empty.get(parameter.type, "")


def parameter_value(parameter: Parameter, given: object) -> Value:
    """`given` as the parameter's type has it. Raises ValueError, whose message says what it must be."""
    if parameter.type == "flag":
        flag = {"true": True, "false": False}.get(str(given).lower())
        if flag is None:
            raise ValueError("must be true or false")
        return flag
    if parameter.type == "number":
        number = None if isinstance(given, bool) else _number(given)
        if number is None:
            raise ValueError("must be a number, as in 3, -1 or 0.5")
        return number
    if not isinstance(given, str):
        raise ValueError("must be text")
    if parameter.type == "choice" and given not in parameter.options:
        raise ValueError(f"must be one of {', '.join(parameter.options)}")
    if len(given) > MAX_TEXT or "\0" in given:
        raise ValueError(f"must be text of at most {MAX_TEXT:,} characters without NUL")
    return given


def _number(given: object) -> Optional[Union[int, float]]:
    text = str(given)
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)


def _unknown(name: str, known: Mapping[str, Parameter]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"must be a parameter of the pipeline; did you mean {close[0]!r}?"
    return f"must be a parameter of the pipeline; there are {', '.join(known) or 'none'}"
