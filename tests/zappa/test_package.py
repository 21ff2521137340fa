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
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from controlplane.deployment.lambda_package import (
    ARCHITECTURES,
    AWS_SERVICES,
    DYNAMODB_OPERATIONS,
    LIMIT_BYTES,
    RUNTIMES,
    Target,
    install_command,
    size_table,
)
from tests.delivery.locks import locked
from tests.zappa.cloud import PROJECT, package_build
from tests.zappa.events import http_api_event

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "unpacked"
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
    assert not [path for path in top if path.startswith((".", "requirements")) or path.endswith((".md", ".toml"))]
    for absent in ("local", "infrastructure", "lambda_package.py", "deployment", "management/commands/release.py"):
        assert not (unpacked / "controlplane" / absent).exists()
    assert not list(unpacked.rglob("tests"))
    assert "build_user" not in "".join(path.read_text() for path in unpacked.glob("*.json"))


def test_it_contains_the_locked_versions(unpacked: Path) -> None:
    packed = [path.name.removesuffix(".dist-info").rsplit("-", 1) for path in unpacked.glob("*.dist-info")]
    expected = {name: version for name, version in locked("runtime").items() if name not in LEFT_OUT}
    assert {canonicalize_name(name): version for name, version in packed} == expected


# What drf-spectacular's check of its own documents, compiling C, OpenID, OAuth 1 and SQL would need.
LEFT_OUT = {"attrs", "jsonschema", "jsonschema-specifications", "pycparser", "referencing", "rpds-py"}
LEFT_OUT |= {"oauthlib", "python3-openid", "requests-oauthlib", "sqlparse"}


def test_it_contains_no_code_of_zappa_werkzeug_openid_or_oauth_1_and_one_bundle_of_ca_certificates(
    unpacked: Path,
) -> None:
    tops = {path.name for path in unpacked.iterdir()}
    assert tops.isdisjoint({"zappa", "zappa_settings.py", "werkzeug"})
    stand_ins = [
        path for name in ("oauthlib", "openid", "requests_oauthlib") for path in unpacked.glob(f"{name}/**/*.pyc")
    ]
    assert stand_ins
    assert sum(path.stat().st_size for path in stand_ins) < 10_000
    assert [str(path.relative_to(unpacked)) for path in unpacked.rglob("cacert.pem")] == ["certifi/cacert.pem"]


def test_it_contains_the_aws_services_that_are_called_and_no_others(unpacked: Path) -> None:
    data = unpacked / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == AWS_SERVICES
    (dynamodb,) = data.glob("dynamodb/*/service-2.json")
    assert json.loads(dynamodb.read_text())["operations"].keys() == DYNAMODB_OPERATIONS


def test_all_of_its_bytecode_is_valid_whatever_the_dates_of_its_files(unpacked: Path) -> None:
    """Of other people's modules there is only the bytecode."""
    ours = [path for name in ("agent", "apps", "controlplane") for path in (unpacked / name).rglob("*.py")]
    sources = {path for path in unpacked.rglob("*.py") if path.name != "manage.py"}
    assert sources == set(ours)
    compiled = list(unpacked.rglob("*.pyc"))
    # The agent's modules are delivered as sources; for those that are imported, the last test looks.
    imported = [path for path in ours if path.relative_to(unpacked).parts[0] != "agent"]
    assert {importlib.util.cache_from_source(str(source)) for source in imported} <= {str(path) for path in compiled}
    assert len(compiled) > 1000
    for bytecode in compiled:
        head = bytecode.read_bytes()[:8]
        assert head[:4] == importlib.util.MAGIC_NUMBER
        # Unchecked hash-based bytecode (PEP 552).
        assert head[4:] == b"\x01\0\0\0", bytecode


# Makes DynamoDB's client in each region, and one of boto3's resources, with nothing but the package.
ADDRESSES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import boto3, botocore.session
session = botocore.session.get_session()
clients = [session.create_client("dynamodb", region_name=region) for region in json.load(sys.stdin)]
print(json.dumps([client.meta.endpoint_url for client in clients]))
assert clients[0].get_item.__doc__ == ""
assert boto3.resource("s3", region_name="eu-central-1").Bucket("any").name == "any"
"""


def test_it_knows_the_address_of_dynamodb_in_each_region_without_botocores_rules(unpacked: Path) -> None:
    regions = {
        "eu-central-1": "amazonaws.com",
        "us-east-1": "amazonaws.com",
        "il-central-1": "amazonaws.com",
        "us-gov-west-1": "amazonaws.com",
        "cn-north-1": "amazonaws.com.cn",
        # A region that AWS opens later.
        "eu-west-9": "amazonaws.com",
    }
    done = subprocess.run(
        [sys._base_executable, "-I", "-S", "-c", ADDRESSES, str(unpacked)],  # type: ignore[attr-defined]
        input=json.dumps(list(regions)),
        env={"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [f"https://dynamodb.{region}.{suffix}" for region, suffix in regions.items()]
    assert not list((unpacked / "botocore" / "data" / "dynamodb").rglob("endpoint-rule-set-1*"))


# Imports each module that any path or schedule needs, with nothing but the package and a bare Python.
STANDALONE = """
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from controlplane.lambda_handler import handler
print(json.dumps([handler(event, None) for event in json.load(sys.stdin)]))
from django.urls import get_resolver
get_resolver().reverse_dict
import apps.accounts.oauth.flow, apps.accounts.oauth.providers, controlplane.schedules
import controlplane.lib.object_storage, prometheus_client, requests
def views_import(patterns):
    for pattern in patterns:
        views_import(pattern.url_patterns) if hasattr(pattern, "url_patterns") else pattern.callback
views_import(get_resolver().url_patterns)
from django.core.management import get_commands, load_command_class
for name, app in get_commands().items():
    if app.startswith(("apps.", "controlplane", "django.core")):
        load_command_class(app, name)
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None) or ""
    assert file.startswith((sys.argv[1], sys.base_prefix)) or not file, (name, file)
    assert not file.startswith(sys.argv[1]) or not file.endswith(".py") or os.path.exists(module.__cached__), name
"""


PAGES = (
    "/health",
    "/info",
    "/schema",
    "/schema/pipeline.json",
    "/guide",
    "/docs",
    "/signin",
    "/static/app.css",
    "/static/admin/css/base.css",
    "/agent.pyz",
)
DOCUMENT = http_api_event("GET", "/schema", headers={"host": "localhost", "accept": "application/json"})


@pytest.fixture(scope="module")
def answers(unpacked: Path, emulator: str) -> list[dict[str, Any]]:
    """What the package alone answers for the API document, and then for each page. Imports all that it may need."""
    headers = {"host": "localhost", "accept": "text/html, */*"}
    done = subprocess.run(
        [sys._base_executable, "-I", "-S", "-c", STANDALONE, str(unpacked)],  # type: ignore[attr-defined]
        input=json.dumps([DOCUMENT, *(http_api_event("GET", page, headers=headers) for page in PAGES)]),
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[0]))


SOURCES = """
import json, sys
from controlplane.lambda_handler import handler
print(handler(json.load(sys.stdin), None)["body"])
"""


def test_its_api_document_is_that_of_the_sources(answers: list[dict[str, Any]]) -> None:
    """The document is made of docstrings, and other people's modules have none there."""
    of_the_sources = subprocess.run(
        [sys.executable, "-c", SOURCES],
        cwd=PROJECT,
        input=json.dumps(DOCUMENT),
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.settings", "STAGE": "local"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.removesuffix("\n")
    assert json.loads(answers[0]["body"])["paths"]
    assert answers[0]["body"] == of_the_sources


def test_it_needs_nothing_but_itself(answers: list[dict[str, Any]]) -> None:
    assert [answer["statusCode"] for answer in answers] == [200] * (len(PAGES) + 1)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_runtime_and_processor_has_wheels_of_every_locked_version(
    runtime: str, architecture: str, tmp_path: Path
) -> None:
    command = [*install_command(Target(runtime, architecture), tmp_path), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_what_lambda_does_not_offer_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"^The runtime must be one of python3\.11, python3\.12, python3\.13"):
        Target("python3.9", "x86_64")
    with pytest.raises(SystemExit, match=r"^The architecture must be one of x86_64, arm64"):
        Target("python3.11", "riscv")


@pytest.mark.nightly
def test_the_same_sources_make_the_same_package_also_when_two_build_at_once(tmp_path: Path) -> None:
    """The test of a stage's deployments shows it for one build after the other."""
    with ThreadPoolExecutor() as pool:
        packages = list(pool.map(package_build, [tmp_path / "one.zip", tmp_path / "other.zip"]))
    assert len({hashlib.sha256(archive.read_bytes()).digest() for archive in packages}) == 1
