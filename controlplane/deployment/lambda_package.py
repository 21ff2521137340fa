"""Builds the package for Lambda: Zappa calls this before and after it makes the zip (see zappa_settings.json).

Zappa packs this checkout. This module adds the distributions of requirements/runtime.txt by their hashes, built for the
Linux of the runtime and processor that zappa_settings.json names, without what no request needs. Zappa dates all files
1980, so Python would discard every .pyc and compile again at each cold start. So the package has bytecode that Python
does not check against the source; of other people's modules it has the bytecode alone, without docstrings.

The package contains nothing of a stage. So the one that was tested on staging can be deployed to production: with
PACKAGE_FILE set to its path, it is deployed as it is (`manage.py deploy --package`).

`manylinux2014` wheels only, because Lambda's Python 3.11 has glibc 2.26; newer ones install here and fail there.
"""

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from controlplane.deployment.compiled_modules import symbols_remove

# The runtimes whose wheels requirements/runtime.txt resolves to.
RUNTIMES = ("python3.11", "python3.12", "python3.13")
# Lambda's names of processors, and those of wheels.
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
# The services that the function calls. The descriptions of all the others are nine tenths of botocore.
AWS_SERVICES = frozenset({"dynamodb", "iam", "kms", "s3", "secretsmanager", "ssm", "sts"})
# The operations of DynamoDB that the product calls, which are half of its description: botocore reads all of it, and
# makes a method for each one, when it makes the client.
DYNAMODB_OPERATIONS = frozenset(
    {
        *("BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem"),
        *("TransactGetItems", "TransactWriteItems"),
        *("CreateTable", "DeleteTable", "DescribeTable", "ListTables", "UpdateTable"),
        *("DescribeTimeToLive", "UpdateTimeToLive"),
    }
)
# The same for the services that only rotations of secrets call, a few of whose operations they need.
ROTATION_OPERATIONS = {
    "iam": frozenset(
        {"CreateAccessKey", "DeleteAccessKey", "GetAccessKeyLastUsed", "ListAccessKeys", "UpdateAccessKey"}
    ),
    "secretsmanager": frozenset({"CreateSecret", "DescribeSecret", "GetSecretValue", "PutSecretValue"}),
    "ssm": frozenset({"GetParameter", "PutParameter"}),
}
# Lambda's own limit is 50 MB. A package larger than this starts slowly.
LIMIT_BYTES = 14 * 1024 * 1024
# Level 9 takes three times as long and saves half a percent more.
_LEVEL = 7

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = _ROOT / ".package"
_LOCK = _ROOT / "requirements" / "runtime.txt"
_BYTECODE = Path(__file__).with_name("bytecode.py")

# The directory into which Lambda unpacks the package; tracebacks show it.
_TASK_ROOT = "/var/task"

# OAuth providers, their base classes, and their registry.
_SIGN_IN_BACKENDS = frozenset({"__init__", "base", "github", "google", "oauth", "utils"})

_UNUSED = (
    # Command line programs, tests, type hints, sources of compiled modules.
    "bin",
    "**/tests",
    "**/*.pyi",
    "**/*.py[dx]",
    "**/py.typed",
    ".lock",
    "*.dist-info/INSTALLER",
    "*.dist-info/RECORD",
    "*.dist-info/REQUESTED",
    "*.dist-info/uv_*",
    # cryptography was compiled with it, and needs no more than _cffi_backend.
    "cffi",
    "pycparser*",
    # The parsers in C: of YAML we use the one in Python, and requests asks charset_normalizer about nothing.
    "yaml/*.so",
    "charset_normalizer/*.so",
    # drf-spectacular uses these to check a document, which only tests do.
    "attr",
    "attrs*",
    "jsonschema*",
    "referencing*",
    "rpds*",
    # botocore's CA certificates: without them it takes certifi's, as requests does.
    "botocore/cacert.pem",
    # Without these rules botocore asks endpoints.json for DynamoDB's address, once instead of for each call.
    "botocore/data/dynamodb/*/endpoint-rule-set-1.json.gz",
    "botocore/data/dynamodb/2011-12-05",
    "botocore/data/*/*/examples-1.json*",
    # Time zones of the world; AWS's timestamps are in UTC.
    "dateutil/zoneinfo/*.tar.gz",
    # Translations and formats; the product is in English.
    "**/LC_MESSAGES",
    "django/conf/locale/[!_e]*",
    "django/conf/locale/e[!n]*",
    # Static files that are collected already, or whose pages are not served.
    "**/static",
    "django/conf/*_template",
    "django/contrib/flatpages",
    "django/contrib/gis",
    "django/contrib/postgres",
    "django/contrib/redirects",
    "django/contrib/sitemaps",
    "django/db/backends/mysql",
    "django/db/backends/oracle",
    "django/db/backends/postgresql",
    # There is no SQL.
    "*/migrations",
    "django/contrib/*/migrations",
    "rest_framework/templates",
    "drf_spectacular/templates",
    "storages/backends/[!_s]*",
    "storages/backends/sftp*",
    "urllib3/contrib/emscripten",
    # Of Powertools, everything but logs and metrics.
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/[!_j]*",
    "boto3/examples",
    "boto3/data/[!ds]*",
)

# social-auth imports these for OpenID and OAuth 1, which no provider here speaks, Django `sqlparse` for scripts of SQL,
# and urllib3 what asks for the version of a library for HTTP/2. The last two make botocore's documentation, which each
# start would import. Only the names are needed.
_STAND_INS = {
    "oauthlib/oauth1.py": 'SIGNATURE_TYPE_AUTH_HEADER = "AUTH_HEADER"\n',
    "requests_oauthlib/__init__.py": "class OAuth1:\n    pass\n",
    "openid/association.py": "class Association:\n    pass\n",
    "openid/consumer/discover.py": "class OpenIDServiceEndpoint:\n    pass\n",
    "openid/store/interface.py": "class OpenIDStore:\n    pass\n",
    "openid/store/nonce.py": "SKEW = 0\n",
    "openid/yadis/manager.py": "class YadisServiceManager:\n    pass\n",
    "sqlparse/__init__.py": "",
    "urllib3/http2/__init__.py": "",
    "botocore/docs/__init__.py": "DEPRECATED_SERVICE_NAMES = frozenset()\n",
    "botocore/docs/docstring.py": (
        "class LazyLoadedDocstring(str):\n"
        "    def __new__(cls, *_args, **_kwargs):\n"
        "        return super().__new__(cls)\n"
        "class ClientMethodDocstring(LazyLoadedDocstring): ...\n"
        "class PaginatorDocstring(LazyLoadedDocstring): ...\n"
        "class WaiterDocstring(LazyLoadedDocstring): ...\n"
    ),
}
_STOOD_IN_FOR = ("oauthlib", "requests_oauthlib", "python3_openid", "openid", "sqlparse")

# Zappa's own entry point with its settings, which we do not use, and the name of the user that builds.
_NOT_SHIPPED = frozenset({"handler.py", "django_zappa_app.py", "package_info.json", "zappa_settings.py", "__init__.py"})

_COLLECT = """
import sys
import django
from django.conf import settings
from django.core.management import call_command
django.setup()
settings.STATIC_ROOT = sys.argv[1]
call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=sys.argv[2:])
"""


_UNSERVED_FILES = (
    # Pages that are not served, translations, and files that only DEBUG uses in place of their *.min.js.
    *("gis", "rest_framework", "i18n", "jquery.js", "select2.full.js", "xregexp.js", "htmx-2.js"),
    # Versions and extensions of htmx that no page uses.
    *("htmax-*", "htmx-4*", "hx-*"),
)


@dataclass(frozen=True)
class Target:
    """What the package is built for, in Lambda's words. Raises SystemExit for what the product does not run on."""

    runtime: str
    architecture: str

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise SystemExit(f"The runtime must be one of {', '.join(RUNTIMES)}, not {self.runtime}.")
        if self.architecture not in ARCHITECTURES:
            raise SystemExit(f"The architecture must be one of {', '.join(ARCHITECTURES)}, not {self.architecture}.")

    @property
    def version(self) -> str:
        """Python's version, such as 3.11."""
        return self.runtime.removeprefix("python")

    @property
    def platform(self) -> str:
        """The name of the platform that wheels are chosen for."""
        return f"{ARCHITECTURES[self.architecture]}-manylinux2014"

    @property
    def python(self) -> str:
        """An interpreter of the same version: Lambda needs its bytecode. Raises SystemExit when there is none."""
        if sys.version_info[:2] == tuple(map(int, self.version.split("."))):
            return sys.executable
        found = shutil.which(self.runtime)
        if found is None:
            raise SystemExit(
                f"The package for {self.runtime} needs its bytecode, and there is no {self.runtime} on the PATH. "
                f"Install it, or set another runtime in zappa_settings.json."
            )
        return found


def environment_empty() -> None:
    """Give Zappa an environment without packages, because `package_finish` adds them."""
    folder = _FOLDER / "no-packages"
    (folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages").mkdir(
        parents=True, exist_ok=True
    )
    os.environ["VIRTUAL_ENV"] = str(folder)


def dependencies_install(target: Target) -> Path:
    """The folder with the distributions of requirements/runtime.txt for `target`, and the collected static files.

    It stays for the next build with the same lock. Another build at the same time waits until this process ends.
    """
    folder = _FOLDER / f"{target.runtime}-{target.architecture}"
    site_packages, installed = folder / "site-packages", folder / "installed"
    _wait_for_other_builds()
    # This module decides what is left out, and the interpreter makes the bytecode.
    made_of = [_LOCK, Path(__file__), _BYTECODE, Path(__file__).with_name("compiled_modules.py")]
    content = hashlib.sha256(b"".join(path.read_bytes() for path in made_of) + _version(target).encode()).hexdigest()
    if not installed.exists() or installed.read_text() != content:
        shutil.rmtree(folder, ignore_errors=True)
        site_packages.mkdir(parents=True)
        _run(*install_command(target, site_packages))
        _remove_unused(site_packages)
        _run(target.python, str(_BYTECODE), str(site_packages), _TASK_ROOT)
        installed.write_text(content)
    static_files = site_packages / "staticfiles"
    shutil.rmtree(static_files, ignore_errors=True)
    _run(sys.executable, "-c", _COLLECT, str(static_files), *_UNSERVED_FILES)
    return site_packages


def install_command(target: Target, site_packages: Path) -> list[str]:
    """The command that installs the locked distributions for `target`. Raises SystemExit without uv."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not installed. Run `make install`, which installs what requirements/dev.txt names.")
    return [
        *(uv, "pip", "install", "--quiet", "--no-config", "--require-hashes", "--link-mode", "copy"),
        *("--target", str(site_packages), "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", target.version, "--python-platform", target.platform),
        *("--requirements", str(_LOCK)),
    ]


def package_finish(zappa: Any) -> None:
    """Add packages and bytecode to the zip that Zappa has made, remove what is not ours, and print its size.

    `zappa` is Zappa's command line. Raises SystemExit when the package is too large.
    """
    target = Target(zappa.runtime, zappa.stage_config.get("architecture", "x86_64"))
    archive = Path(zappa.zip_path)
    made = os.environ.get("PACKAGE_FILE")
    if made:
        shutil.copyfile(made, archive)
    else:
        _build(target, archive)
    for line in size_table(archive):
        print(line)  # noqa: T201 — for the person who builds
    print(f"SHA-256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")  # noqa: T201
    if archive.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"The package is larger than the limit of {LIMIT_BYTES // 2**20} MB.")


def _build(target: Target, archive: Path) -> None:
    site_packages = dependencies_install(target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        for unwanted in _NOT_SHIPPED:
            _remove(folder / unwanted)
        shutil.copytree(site_packages, folder, dirs_exist_ok=True)
        # In a process of its own: bytecode differs by what the process that compiles has compiled and loaded before.
        _run(target.python, str(_BYTECODE), str(folder), _TASK_ROOT)
        _pack(folder, archive)


def _version(target: Target) -> str:
    """The version of the interpreter that compiles, to its patch."""
    asked = [target.python, "-c", "import sys; print(sys.version)"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout  # noqa: S603


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


def _remove_unused(site_packages: Path) -> None:
    for pattern in _UNUSED:
        for path in list(site_packages.glob(pattern)):
            _remove(path)
    for backend in (site_packages / "social_core" / "backends").glob("*.py"):
        if backend.stem not in _SIGN_IN_BACKENDS:
            backend.unlink()
    _stand_ins_write(site_packages)
    for metadata in site_packages.glob("*.dist-info/METADATA"):
        # Without the description, which a blank line begins.
        metadata.write_text(metadata.read_text().partition("\n\n")[0] + "\n")
    _services_shorten(site_packages / "botocore" / "data")
    for module in site_packages.rglob("*.so"):
        symbols_remove(module)


def _stand_ins_write(site_packages: Path) -> None:
    for name in _STOOD_IN_FOR:
        for path in [site_packages / name, *site_packages.glob(f"{name}-*.dist-info")]:
            _remove(path)
    for name, text in _STAND_INS.items():
        for folder in reversed(Path(name).parents[:-1]):
            (site_packages / folder).mkdir(exist_ok=True)
            (site_packages / folder / "__init__.py").touch()
        (site_packages / name).write_text(text)


def _services_shorten(data: Path) -> None:
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
    operations = {"dynamodb": DYNAMODB_OPERATIONS, **ROTATION_OPERATIONS}.get(packed.parts[-3])
    if operations:
        description = _with_operations(description, operations)
    packed.with_suffix("").write_text(json.dumps(description, separators=(",", ":")))
    packed.unlink()


def _without_documentation(part: dict[str, Any]) -> dict[str, Any]:
    # Only if it is text: a member of that name may also be a structure. botocore needs some texts, even if empty.
    return {name: "" if name == "documentation" and isinstance(value, str) else value for name, value in part.items()}


def _with_operations(description: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A service's description with these operations and their shapes only."""
    operations = {name: operation for name, operation in description["operations"].items() if name in names}
    shapes = description["shapes"]
    needed: dict[str, Any] = {}
    waiting = list(_shapes_of(operations))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = shapes[name]
            waiting += _shapes_of(shapes[name])
    kept = {name: shape for name, shape in shapes.items() if name in needed}
    return {**description, "operations": operations, "shapes": kept}


def _shapes_of(part: Any) -> Iterator[str]:
    """The names of the shapes to which a part of a description refers."""
    for name, value in part.items() if isinstance(part, dict) else ():
        if name == "shape" and isinstance(value, str):
            yield value
        else:
            yield from chain.from_iterable(map(_shapes_of, value)) if isinstance(value, list) else _shapes_of(value)


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


def _run(*command: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        "STAGE": "local",
        "SECRET_KEY": "only to collect files",
    }
    subprocess.run(command, cwd=_ROOT, env=environment, check=True)  # noqa: S603
