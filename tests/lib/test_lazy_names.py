"""Packages that import a module with the first use of one of its names."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from controlplane.lib.lazy_names import lazy_names

LAZY = sorted(
    ".".join(path.parent.relative_to(settings.BASE_DIR).parts)
    for path in Path(settings.BASE_DIR).glob("apps/*/*/__init__.py")
    if "lazy_names(" in path.read_text()
)


def declared(package: str) -> set[tuple[str, str]]:
    """The names that type checkers see in a package, each with its module."""
    tree = ast.parse(Path(str(import_module(package).__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {(str(node.module), name.name) for node in imports for name in node.names}


@pytest.mark.parametrize("package", LAZY)
def test_a_package_has_the_names_that_type_checkers_see(package: str) -> None:
    module = import_module(package)
    for home, name in declared(package):
        assert module.__getattr__(name) is getattr(import_module(home), name)
    assert {name for _, name in declared(package)} <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("package", LAZY)
def test_no_name_is_that_of_a_module_which_would_replace_it(package: str) -> None:
    modules = {path.stem for path in Path(str(import_module(package).__file__)).parent.glob("*.py")}
    assert modules.isdisjoint(name for _, name in declared(package))


def test_the_packages_are_found() -> None:
    assert "apps.jobs.services" in LAZY


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    getattribute: Any = lazy_names("apps.jobs.services", {"claims": ["jobs_claim"]})
    with pytest.raises(AttributeError, match=r"'apps\.jobs\.services' has no attribute 'missing'"):
        getattribute("missing")


# Imports one package after the other, each in a process that has imported nothing of ours but Django's applications.
IMPORTING = """
import json, multiprocessing, sys
import django

def imported(package, homes):
    __import__(package)
    return [home for home in homes if home in sys.modules]

django.setup()
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.starmap(imported, json.load(sys.stdin), chunksize=1)))
"""


def test_a_package_alone_imports_none_of_its_lazy_modules() -> None:
    packages = [(package, sorted({home for home, _ in declared(package)})) for package in LAZY]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        input=json.dumps(packages),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert dict(zip(LAZY, json.loads(done.stdout), strict=True)) == {package: [] for package in LAZY}
