"""The agent as one file: a zipapp. The control plane serves it, and agents start their guards from it."""

from __future__ import annotations

import importlib.resources
import io
import zipfile

_MAIN = "import sys\n\nfrom agent.__main__ import main\n\nsys.exit(main())\n"
# The earliest date that a zip file can hold. A fixed date makes the same sources give the same bytes.
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
