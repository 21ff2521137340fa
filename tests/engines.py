"""A machine without a container engine, as most tests of agents need it."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent / "no_engine"


def path_without_engine() -> str:
    """The PATH with an engine before all others that does not work.

    To ask the machine's own one takes an agent longer than the rest of its start.
    """
    return f"{_FOLDER}{os.pathsep}{os.environ['PATH']}"
