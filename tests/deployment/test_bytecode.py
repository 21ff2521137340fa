"""The bytecode of the modules in the package."""

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from controlplane.deployment import bytecode

SOURCE = b'''"""What the module is for."""

from __future__ import annotations


class Empty(Exception):
    """Nothing but a text."""


class Kind:
    """A text.

    Of several lines.
    """

    value = "kept"

    def method(self):
        """A text."""


async def wait():
    """A text."""
    return "no docstring"


def fail(given):
    """A text."""
    assert given, "an assert stays"
    raise ValueError(given)
'''


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A folder with a package of two modules, of which only the bytecode is left."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").touch()
    (tmp_path / "made" / "module.py").write_bytes(SOURCE)
    (tmp_path / "made" / "plain.py").write_bytes(SOURCE.replace(b'assert given, "an assert stays"', b"pass"))
    subprocess.run([sys.executable, bytecode.__file__, str(tmp_path), "/var/task"], check=True, timeout=60)
    return tmp_path


def test_modules_are_imported_from_bytecode_without_docstrings(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(path.name for path in packed.rglob("*.*")) == ["__init__.pyc", "module.pyc", "plain.pyc"]
    monkeypatch.syspath_prepend(str(packed))
    from made import module  # type: ignore[import-not-found]

    texts = [module, module.Empty, module.Kind, module.Kind.method, module.wait, module.fail]
    assert [text.__doc__ for text in texts] == [None] * 6
    assert (module.Kind.value, module.Kind().method()) == ("kept", None)
    with pytest.raises(AssertionError, match="an assert stays"):
        module.fail(None)
    with pytest.raises(ValueError, match="given") as failed:
        module.fail("given")
    frame = traceback.extract_tb(failed.tb)[-1]
    line = SOURCE.decode().splitlines().index("    raise ValueError(given)") + 1
    assert (frame.filename, frame.lineno) == ("/var/task/made/module.py", line)


def test_a_module_without_asserts_has_no_docstrings_either(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(packed))
    from made import plain

    texts = [plain, plain.Empty, plain.Kind, plain.Kind.method, plain.wait, plain.fail]
    assert [text.__doc__ for text in texts] == [None] * 6
    assert (plain.Kind.value, plain.Kind().method()) == ("kept", None)


def test_the_agent_keeps_its_sources_and_the_api_document_its_docstrings(tmp_path: Path) -> None:
    for name in (
        "apps/services/module",
        "apps/api/module",
        "agent/worker",
        "agent/bundle",
        "agent/pipeline/module",
        "rest_framework/serializers",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_bytes(SOURCE)
    subprocess.run([sys.executable, bytecode.__file__, str(tmp_path), "/var/task"], check=True, timeout=60)
    sources = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py"))
    assert sources == ["agent/bundle.py", "agent/pipeline/module.py", "agent/worker.py"]
    with_docstrings = {
        path.relative_to(tmp_path)
        .as_posix()
        .replace(f".{sys.implementation.cache_tag}", ""): b"What the module is for." in path.read_bytes()
        for path in tmp_path.rglob("*.pyc")
    }
    assert with_docstrings == {
        "agent/__pycache__/bundle.pyc": False,
        "agent/pipeline/__pycache__/module.pyc": False,
        "apps/api/module.pyc": True,
        "apps/services/module.pyc": False,
        "rest_framework/serializers.pyc": False,
    }


def test_the_same_source_gives_the_same_bytecode_which_python_does_not_check() -> None:
    made = bytecode.bytecode(SOURCE, "module.py")
    assert made == bytecode.bytecode(SOURCE, "module.py")
    assert made[4:8] == b"\x01\0\0\0"


def test_a_source_that_is_not_python_is_refused() -> None:
    with pytest.raises(SyntaxError):
        bytecode.bytecode(b"def", "module.py")
