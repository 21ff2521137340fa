"""The agent as one file, and the Python versions that it must run on."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from agent.bundle import agent_bundle
from tests.agent.conftest import ROOT

SOURCES = sorted((ROOT / "agent").rglob("*.py"))
LICENCE = ROOT / "agent/pipeline/PYYAML-LICENSE.txt"
YAML = sorted(Path(yaml.__file__).parent.glob("*.py"))


def test_the_bundle_has_the_sources_and_those_of_pyyaml_with_its_licence() -> None:
    with zipfile.ZipFile(io.BytesIO(agent_bundle())) as archive:
        files = {path.relative_to(ROOT).as_posix(): path for path in [*SOURCES, LICENCE]}
        files |= {f"yaml/{path.name}": path for path in YAML}
        assert archive.namelist() == sorted(["__main__.py", *files])
        assert all(archive.read(name) == path.read_bytes() for name, path in files.items())


def test_every_machine_builds_the_same_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "agent.pyz"
    bundle.write_bytes(agent_bundle())
    for path in SOURCES:
        os.utime(path)
    assert agent_bundle() == bundle.read_bytes()
    # The program makes the same bundle of itself.
    code = "import sys; from agent.bundle import agent_bundle; sys.stdout.buffer.write(agent_bundle())"
    made = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(bundle)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert made.stdout == bundle.read_bytes()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_source_file_is_valid_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))
    assert "from __future__ import annotations" in path.read_text() or path.name == "__init__.py"


def test_the_agent_imports_only_the_standard_library_and_its_language_pyyaml() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                root = module.partition(".")[0]
                known = root in ("agent", *sys.stdlib_module_names) or (path.parent.name, root) == ("pipeline", "yaml")
                assert known, f"{path.name} imports {module}"


def test_help_names_the_environment_variable_of_every_option_and_the_exit_codes(tmp_path: Path) -> None:
    bundle = tmp_path / "agent.pyz"
    bundle.write_bytes(agent_bundle())
    text = subprocess.run(
        [sys.executable, "-I", str(bundle), "--help"], capture_output=True, check=True, text=True
    ).stdout
    for option in ("url", "token", "token-file", "name", "region", "labels", "slots", "state-dir", "work-dir"):
        assert f"--{option}" in text
        assert f"[HYBRID_CI_{option.upper().replace('-', '_')}]" in text.replace("\n" + " " * 23, " ")
    assert "exit codes:" in text
    assert "Windows is out of scope" in text


def test_an_agent_that_starts_loads_neither_the_language_nor_pyyaml(tmp_path: Path) -> None:
    bundle = tmp_path / "agent.pyz"
    bundle.write_bytes(agent_bundle())
    code = "import sys, agent.cli; print(*sorted(n for n in sys.modules if n.startswith(('yaml', 'agent.pipeline'))))"
    made = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(bundle)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    assert made.stdout.strip() == ""
