"""Compiled modules without what no program loads."""

import shutil
import subprocess
import sys
from pathlib import Path

import httptools
import pytest

from controlplane.deployment.compiled_modules import symbols_remove

READ = """
import importlib.util, sys
import httptools
specification = importlib.util.spec_from_file_location("httptools.parser.url_parser", sys.argv[1])
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
print(module.parse_url(b"https://ci.example.com:8443/runs?all").port)
"""


def test_a_module_without_symbols_is_smaller_and_does_the_same(tmp_path: Path) -> None:
    (original,) = Path(httptools.__file__).parent.glob("parser/url_parser*.so")
    module = Path(shutil.copy(original, tmp_path))
    symbols_remove(module)
    assert module.stat().st_size < original.stat().st_size / 2
    done = subprocess.run([sys.executable, "-c", READ, str(module)], check=True, capture_output=True, text=True)
    assert done.stdout == "8443\n"
    once = module.read_bytes()
    symbols_remove(module)
    assert module.read_bytes() == once


@pytest.mark.parametrize("data", [b"", b"\xcf\xfa\xed\xfe of a Mac", b"\x7fELF\x01\x01 of 32 bits"])
def test_another_file_is_refused_and_stays(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "module.so"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"module\.so is not"):
        symbols_remove(file)
    assert file.read_bytes() == data
