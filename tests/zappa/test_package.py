"""The package that `zappa package` makes."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from controlplane.deployment.lambda_package import AWS_SERVICES, LIMIT_BYTES, shipped_versions, size_table
from tests.zappa.cloud import PROJECT
from tests.zappa.events import http_api_event

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


def build(archive: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "zappa.cli", "package", "staging", "--output", str(archive)],
        cwd=PROJECT,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return archive


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package") / "one.zip")


@pytest.fixture(scope="module")
def unpacked(package: Path) -> Path:
    folder = package.parent / "unpacked"
    with zipfile.ZipFile(package) as opened:
        opened.extractall(folder)
    return folder


def test_it_is_small(package: Path) -> None:
    assert package.stat().st_size <= LIMIT_BYTES, "\n".join(size_table(package))


def test_it_contains_no_code_for_one_machine_for_tests_or_for_deployment(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir()}
    assert top.isdisjoint(
        {"tests", "docs", "benchmarks", "static", "bin", "pip", "troposphere", "ministack", "pytest", "handler.py"}
    )
    assert not [path for path in top if path.startswith(".") or path.endswith((".md", ".toml"))]
    for absent in ("local", "infrastructure", "lambda_package.py", "deployment", "management/commands/release.py"):
        assert not (unpacked / "controlplane" / absent).exists()
    assert not list(unpacked.rglob("tests"))
    assert "build_user" not in "".join(path.read_text() for path in unpacked.glob("*.json"))


def test_it_contains_the_tested_versions(unpacked: Path) -> None:
    packed = [path.name.removesuffix(".dist-info").rsplit("-", 1) for path in unpacked.glob("*.dist-info")]
    expected = {name: version for name, version in shipped_versions().items() if name not in LEFT_OUT}
    assert {canonicalize_name(name): version for name, version in packed} == expected


# Only drf-spectacular's check of its own documents, and compiling C, would need them.
LEFT_OUT = {"attrs", "jsonschema", "jsonschema-specifications", "pycparser", "referencing", "rpds-py"}


def test_it_contains_the_aws_services_that_are_called_and_no_others(unpacked: Path) -> None:
    data = unpacked / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == AWS_SERVICES


def test_all_of_its_bytecode_is_valid_whatever_the_dates_of_its_files(unpacked: Path) -> None:
    sources = [path for path in unpacked.rglob("*.py") if path.stat().st_size]
    assert len(sources) > 1000
    for source in sources:
        bytecode = Path(importlib.util.cache_from_source(str(source)))
        assert bytecode.exists(), source
        head = bytecode.read_bytes()[:8]
        assert head[:4] == importlib.util.MAGIC_NUMBER
        # Unchecked hash-based bytecode (PEP 552).
        assert head[4:] == b"\x01\0\0\0", source


# Imports each module that any path or schedule needs, with nothing but the package and a bare Python.
STANDALONE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from controlplane.lambda_handler import handler
print(json.dumps([handler(event, None)["statusCode"] for event in json.load(sys.stdin)]))
from django.urls import get_resolver
get_resolver().reverse_dict
import apps.accounts.oauth.flow, apps.accounts.oauth.providers, controlplane.schedules, zappa.handler
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None) or ""
    assert file.startswith((sys.argv[1], sys.base_prefix)) or not file, (name, file)
"""


def test_it_needs_nothing_but_itself(unpacked: Path) -> None:
    pages = [
        "/health",
        "/info",
        "/schema",
        "/docs",
        "/signin",
        "/static/app.css",
        "/static/admin/css/base.css",
        "/agent.pyz",
    ]
    headers = {"host": "localhost", "accept": "text/html, */*"}
    done = subprocess.run(
        [sys._base_executable, "-I", "-S", "-c", STANDALONE, str(unpacked)],  # type: ignore[attr-defined]
        input=json.dumps([http_api_event("GET", page, headers=headers) for page in pages]),
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == [200] * len(pages)


@pytest.mark.nightly
def test_the_same_sources_make_the_same_package_also_when_two_build_at_once(tmp_path: Path) -> None:
    """The test of a stage's deployments shows it for one build after the other."""
    with ThreadPoolExecutor() as pool:
        packages = list(pool.map(build, [tmp_path / "one.zip", tmp_path / "other.zip"]))
    assert len({hashlib.sha256(archive.read_bytes()).digest() for archive in packages}) == 1
