"""The agent as one file: a zipapp, which the control plane serves.

It contains sources alone: it must run on every Python from 3.9 on, and the control plane's version says nothing about
an agent's. PyYAML's are there for `agent.pipeline`, and nothing else loads them.
"""

from __future__ import annotations

import importlib.resources
import io
import zipfile

# The folders of the zipapp, and the packages whose sources are in them.
_PACKAGES = {"agent": "agent", "agent/pipeline": "agent.pipeline", "yaml": "yaml"}

_MAIN = "import sys\n\nfrom agent.__main__ import main\n\nsys.exit(main())\n"
# The earliest date that a zip file can contain. A fixed date makes the same sources give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def agent_bundle() -> bytes:
    """The bytes of agent.pyz. The same sources give the same bytes: dates are fixed and nothing is compressed."""
    content = {"__main__.py": _MAIN.encode()}
    for package, module in _PACKAGES.items():
        for source in importlib.resources.files(module).iterdir():
            if source.name.endswith((".py", ".txt")):
                content[f"{package}/{source.name}"] = source.read_bytes()
    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content[name])
    return buffer.getvalue()
