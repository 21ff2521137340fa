"""The agent as one file: a zipapp, which the control plane serves. And the folder that an agent starts its guards from.

The zipapp contains sources alone: it must run on every Python from 3.9 on, and the control plane's version says nothing
about an agent's. Python compiles them anew at each start, which takes a guard longer than its work. So each agent
compiles the guard's modules once, for its own Python.
"""

from __future__ import annotations

import importlib.resources
import io
import py_compile
import sys
import zipfile
from pathlib import Path

from agent.files import write_private

# What a guard imports of the agent.
GUARD_MODULES = ("__init__", "guard", "privileges", "processes")

_MAIN = "import sys\n\nfrom agent.__main__ import main\n\nsys.exit(main())\n"
# The earliest date that a zip file can contain. A fixed date makes the same sources give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def agent_bundle() -> bytes:
    """The bytes of agent.pyz. The same sources give the same bytes: dates are fixed and nothing is compressed."""
    content = {"__main__.py": _MAIN.encode()}
    for source in importlib.resources.files("agent").iterdir():
        if source.name.endswith(".py"):
            content[f"agent/{source.name}"] = source.read_bytes()
    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content[name])
    return buffer.getvalue()


def write_guard_program(folder: Path) -> None:
    """Write the guard's modules and their bytecode to the package `agent` in the folder. Raises OSError."""
    package = folder / "agent"
    cache = package / "__pycache__"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in GUARD_MODULES:
        source = package / f"{name}.py"
        write_private(source, importlib.resources.files("agent").joinpath(source.name).read_bytes(), durable=False)
        # No check of the source at each start. A Python that replaces this one has another tag and compiles the source.
        py_compile.compile(
            str(source),
            cfile=str(cache / f"{name}.{sys.implementation.cache_tag}.pyc"),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
