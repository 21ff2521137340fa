"""The folder that an agent starts its guards from.

The agent comes as a file of sources, which Python compiles anew at each start. That takes a guard longer than its work.
So each agent compiles the guard's modules once, for its own Python.
"""

from __future__ import annotations

import pkgutil
import py_compile
import sys
from pathlib import Path

from agent.files import write_private

# What a guard imports of the agent.
GUARD_MODULES = ("__init__", "guard", "privileges", "processes")


def write_guard_program(folder: Path) -> None:
    """Write the guard's modules and their bytecode to the package `agent` in the folder. Raises OSError."""
    package = folder / "agent"
    cache = package / "__pycache__"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in GUARD_MODULES:
        source = package / f"{name}.py"
        write_private(source, _source(source.name), durable=False)
        # No check of the source at each start. A Python that replaces this one has another tag and compiles the source.
        py_compile.compile(
            str(source),
            cfile=str(cache / f"{name}.{sys.implementation.cache_tag}.pyc"),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _source(name: str) -> bytes:
    # importlib.resources has the same, and takes a tenth of the agent's start to import.
    data = pkgutil.get_data("agent", name)
    if data is None:
        raise FileNotFoundError(name)
    return data
