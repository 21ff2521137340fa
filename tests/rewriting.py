"""Bytecode of a new checkout, once for all test processes.

pytest rewrites the assertions of each test file when it imports it. All processes import all files at the same time, so
each of them would do the work of all.
"""

import compileall
import multiprocessing
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from _pytest.assertion.rewrite import PYC_TAIL, _rewrite_test, _write_pyc, get_cache_dir, try_makedirs

ROOT = Path(__file__).parents[1]
# What each process imports: folders of ours, and modules that import most of what we use of others.
FOLDERS = ("agent", "apps", "benchmarks", "cli/src", "controlplane", "docs")
MODULES = (
    "schemathesis",
    "controlplane.urls",
    "selenium.webdriver.chrome.webdriver",
    "selenium.webdriver.support.wait",
    "markdown_it",
    "troposphere",
    "http_message_signatures",
    "nacl.public",
)


def bytecode_make(config: pytest.Config) -> None:
    """Write what is missing, by as many processes as there are cores. What is out of date, pytest itself replaces."""
    files = [file for name in ("test_*.py", "conftest.py") for file in (ROOT / "tests").rglob(name)]
    missing = [file for file in files if not _bytecode_of(file).exists()]
    if len(missing) < len(files) // 2:
        return
    with multiprocessing.get_context("fork").Pool(initializer=_configure, initargs=(config,)) as pool:
        done = pool.map_async(_rewrite, missing, chunksize=8)
        pool.map(_compile, FOLDERS)
        pool.map(_import, MODULES, chunksize=1)
        done.get()


def _bytecode_of(file: Path) -> Path:
    return get_cache_dir(file) / (file.stem + PYC_TAIL)


_configs: list[pytest.Config] = []


def _configure(config: pytest.Config) -> None:
    _configs.append(config)


def _compile(folder: str) -> None:
    compileall.compile_dir(ROOT / folder, quiet=2)


def _import(module: str) -> None:
    import_module(module)


def _rewrite(file: Path) -> None:
    bytecode = _bytecode_of(file)
    if try_makedirs(bytecode.parent):
        source_hash, code = _rewrite_test(file, _configs[0])
        _write_pyc(SimpleNamespace(trace=print), code, source_hash, bytecode)  # type: ignore[arg-type]
