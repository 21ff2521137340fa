"""How many examples of a property are tried: a few with every change, and ten times as many each night."""

import os

_TIMES = int(os.environ.get("EXAMPLES", "1"))


def examples(usual: int) -> int:
    """As many as are tried with every change, times EXAMPLES of the environment."""
    return usual * _TIMES
