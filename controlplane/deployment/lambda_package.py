"""Builds the package for Lambda: Zappa calls this before and after it makes the zip (see zappa_settings.json).

Zappa packs a virtual environment. It gets one that has only requirements.txt, in the versions that are installed (and
so tested) here, built for Lambda's Linux, without what no request needs. Zappa dates all files 1980, so Python would
discard every .pyc and compile again at each cold start. So the finished package has bytecode that Python does not check
against the source.

`manylinux2014` wheels only, because Lambda's Python 3.11 has glibc 2.26; newer ones install here and fail there.
"""

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = (3, 11)
# Wheels for a newer glibc than 2.26 install here and fail on Lambda.
PLATFORM = "manylinux2014_x86_64"
# The services that the function calls. The descriptions of all the others are nine tenths of botocore.
AWS_SERVICES = frozenset({"dynamodb", "kms", "s3", "sts"})
# Lambda's own limit is 50 MB. A package larger than this starts slowly.
LIMIT_BYTES = 20 * 1024 * 1024
# Level 9 takes three times as long and saves half a percent more.
_LEVEL = 7

_ROOT = Path(__file__).resolve().parents[2]
_VENV = _ROOT / ".package"
# What the directory holds: a digest of the versions and of this file, which decides what is left out.
_INSTALLED = _VENV / "installed"
_SITE_PACKAGES = _VENV / "lib" / f"python{PYTHON[0]}.{PYTHON[1]}" / "site-packages"

# The directory into which Lambda unpacks the package; tracebacks show it.
_TASK_ROOT = "/var/task"

# Zappa's handler imports these. Its commands import twenty more.
_ZAPPA_NEEDS = [Requirement(name) for name in ("boto3", "durationpy", "werkzeug")]

# OAuth providers, their base classes, and their registry.
_SIGN_IN_BACKENDS = frozenset({"__init__", "base", "github", "google", "oauth", "open_id", "open_id_connect", "utils"})

_UNUSED = (
    # Only Zappa's commands use these.
    "zappa/asynchronous.py",
    "zappa/cli.py",
    "zappa/core.py",
    "zappa/letsencrypt.py",
    # Command line programs, tests, type hints.
    "bin",
    "**/tests",
    "**/*.pyi",
    "**/py.typed",
    "*.dist-info/RECORD",
    # The C sources of the cryptography package, which is installed compiled.
    "pycparser*",
    # drf-spectacular uses these to check a document, which only tests do.
    "attr",
    "attrs*",
    "jsonschema*",
    "referencing*",
    "rpds*",
    # Translations; the product is in English.
    "**/LC_MESSAGES",
    # Static files that are collected already, or whose pages are not served.
    "**/static",
    "django/contrib/gis",
    "django/contrib/postgres",
    "django/db/backends/mysql",
    "django/db/backends/oracle",
    "django/db/backends/postgresql",
    "werkzeug/debug/shared",
    "rest_framework/templates",
    "drf_spectacular/templates",
    # Of Powertools, everything but logs and metrics.
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/[!_j]*",
    "boto3/examples",
    "boto3/data/[!ds]*",
)

# Zappa's own entry point, which we do not use, and the name of the user that builds.
_NOT_SHIPPED = frozenset({"handler.py", "django_zappa_app.py", "package_info.json", "__init__.py"})

# Settings of one machine, of a command, or of zappa_settings.json.
_NOT_THE_FUNCTIONS = frozenset({"ADMIN_PASSWORD", "KEY_FILE", "LOG_DIR", "STAGE"})

_COLLECT = """
import sys
import django
from django.conf import settings
from django.core.management import call_command
django.setup()
settings.STATIC_ROOT = sys.argv[1]
call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=sys.argv[2:])
"""


# Pages that are not served, translations, and files that only DEBUG uses in place of their *.min.js.
_UNSERVED_FILES = ("gis", "rest_framework", "i18n", "jquery.js", "select2.full.js", "xregexp.js")


def dependencies_install() -> None:
    """Install requirements.txt into a directory of its own and give that to Zappa as the environment.

    A second build waits for the first one, and installs nothing if the versions are the same. Raises SystemExit for
    another Python than Lambda's, because Lambda could not use its bytecode.
    """
    if sys.version_info[:2] != PYTHON:
        raise SystemExit(f"Build the package with Python {PYTHON[0]}.{PYTHON[1]}: Lambda needs its bytecode.")
    _wait_for_other_builds()
    versions = shipped_versions()
    content = hashlib.sha256(repr(versions).encode() + Path(__file__).read_bytes()).hexdigest()
    if not _INSTALLED.exists() or _INSTALLED.read_text() != content:
        _versions_install(versions)
        _INSTALLED.write_text(content)
    static_files = _SITE_PACKAGES / "staticfiles"
    shutil.rmtree(static_files, ignore_errors=True)
    _run("-c", _COLLECT, str(static_files), *_UNSERVED_FILES)
    os.environ["VIRTUAL_ENV"] = str(_VENV)


def _versions_install(versions: Mapping[str, str]) -> None:
    shutil.rmtree(_VENV, ignore_errors=True)
    _SITE_PACKAGES.mkdir(parents=True)
    _run(
        *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"),
        *("--target", str(_SITE_PACKAGES)),
        *("--only-binary=:all:", "--platform", PLATFORM, "--implementation", "cp"),
        *("--python-version", f"{PYTHON[0]}.{PYTHON[1]}"),
        *(f"{name}=={version}" for name, version in sorted(versions.items())),
    )
    _remove_unused()


def shipped_versions() -> dict[str, str]:
    """The distributions that requirements.txt names and their dependencies, in the versions that are installed here."""
    lines = (_ROOT / "requirements.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions: dict[str, str] = {}
    while wanted:
        found = distribution(wanted.pop().name)
        name = canonicalize_name(found.name)
        if name not in versions:
            versions[name] = found.version
            needs = _ZAPPA_NEEDS if name == "zappa" else (Requirement(text) for text in found.requires or ())
            wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return versions


def package_finish(zappa: Any) -> None:
    """Add bytecode to the zip that Zappa has made, remove what is not ours, and print its size.

    `zappa` is Zappa's command line. The function gets those settings that are in this process's environment. Raises
    SystemExit when the package is too large, or there is no bucket for it.
    """
    if zappa.command != "package":
        stack_use(zappa)
    archive = Path(zappa.zip_path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        for unwanted in _NOT_SHIPPED:
            (folder / unwanted).unlink(missing_ok=True)
        # In a process of its own: bytecode differs by what the process that compiles has compiled and loaded before.
        _run(
            *("-m", "compileall", "-q", "-s", name, "-p", _TASK_ROOT, "--invalidation-mode", "unchecked-hash", name),
        )
        _pack(folder, archive)
    for line in size_table(archive):
        print(line)  # noqa: T201 — for the person who builds
    if archive.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"The package is larger than the limit of {LIMIT_BYTES // 2**20} MB.")


def stack_use(zappa: Any) -> None:
    """Give the function its settings, and give Zappa the stack's bucket for packages instead of one of its own."""
    # Zappa's command does not search its working directory for modules.
    sys.path.append(str(_ROOT))
    from controlplane.infrastructure.clients import Account
    from controlplane.infrastructure.errors import InfrastructureError
    from controlplane.infrastructure.handover import function_settings, package_bucket_require

    try:
        account = Account(zappa.aws_region)
        zappa.s3_bucket_name = package_bucket_require(zappa.api_stage, account)
    except InfrastructureError as error:
        raise SystemExit(str(error)) from error
    zappa.aws_environment_variables = {
        **function_settings(zappa.api_stage, account.number),
        **settings_given(os.environ),
        **zappa.aws_environment_variables,
    }


def settings_given(environment: Mapping[str, str]) -> dict[str, str]:
    """The function's settings of .env.example in `environment`, without those that AWS sets and those of files."""
    example = (_ROOT / ".env.example").read_text()
    names = set(re.findall(r"^(\w+)=", example, re.MULTILINE)) - _NOT_THE_FUNCTIONS
    return {name: environment[name] for name in sorted(names) if environment.get(name) and not name.startswith("AWS_")}


def size_table(archive: Path) -> Iterator[str]:
    """The parts of the package, largest first, with packed and unpacked kilobytes."""
    packed: Counter[str] = Counter()
    unpacked: Counter[str] = Counter()
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            part = entry.filename.split("/")[0].removesuffix(".py")
            part = "(metadata of packages)" if part.endswith(".dist-info") else part
            packed[part] += entry.compress_size
            unpacked[part] += entry.file_size
    yield f"{'part':<28}{'packed KB':>12}{'unpacked KB':>14}"
    for part, size in packed.most_common(15):
        yield f"{part:<28}{size // 1024:>12}{unpacked[part] // 1024:>14}"
    others = [part for part, _ in packed.most_common()[15:]]
    yield f"{'others':<28}{sum(packed[p] for p in others) // 1024:>12}{sum(unpacked[p] for p in others) // 1024:>14}"
    yield f"{'all':<28}{archive.stat().st_size // 1024:>12}{unpacked.total() // 1024:>14}"


def _wait_for_other_builds() -> None:
    """Wait for other builds, which share the directory. The lock lasts as long as the process: Zappa still reads it."""
    handle = os.open(__file__, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_unused() -> None:
    for pattern in _UNUSED:
        for path in list(_SITE_PACKAGES.glob(pattern)):
            _remove(path)
    for backend in (_SITE_PACKAGES / "social_core" / "backends").glob("*.py"):
        if backend.stem not in _SIGN_IN_BACKENDS:
            backend.unlink()
    data = _SITE_PACKAGES / "botocore" / "data"
    for service in data.iterdir():
        if service.is_dir() and service.name not in AWS_SERVICES:
            _remove(service)
    _endpoints_shorten(data / "endpoints.json")
    for packed in data.rglob("service-2.json.gz"):
        _description_shorten(packed)


def _endpoints_shorten(file: Path) -> None:
    """Keep only the endpoints that are used: botocore reads those of all services when it makes a client."""
    endpoints = json.loads(file.read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in sorted(AWS_SERVICES & services.keys())}
    file.write_text(json.dumps(endpoints, separators=(",", ":")))


def _description_shorten(packed: Path) -> None:
    """Remove documentation, half of a service's description, which botocore would parse when it makes a client."""
    description = json.loads(gzip.decompress(packed.read_bytes()), object_hook=_without_documentation)
    packed.with_suffix("").write_text(json.dumps(description, separators=(",", ":")))
    packed.unlink()


def _without_documentation(part: dict[str, Any]) -> dict[str, Any]:
    # Only if it is text: a member of that name may also be a structure. botocore needs some texts, even if empty.
    return {name: "" if name == "documentation" and isinstance(value, str) else value for name, value in part.items()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pack(folder: Path, archive: Path) -> None:
    """Make the zip. The same files make the same zip, byte by byte."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.create_system = 3
            entry.external_attr = 0o755 << 16
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)


def _run(*arguments: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "STAGE": "local",
        "SECRET_KEY": "only to collect files",
    }
    subprocess.run([sys.executable, *arguments], cwd=_ROOT, env=environment, check=True)  # noqa: S603
