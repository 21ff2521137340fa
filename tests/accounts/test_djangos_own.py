"""Our stores of sessions pass the tests that Django has for its own."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import django
import pytest
from django.conf import settings

CACHE = Path(settings.BASE_DIR) / ".local" / "django-sources"


@pytest.fixture(scope="module")
def sources() -> Path:
    """A folder with the package ``sessions_tests`` of the installed release, fetched once."""
    folder = CACHE / django.__version__
    if not (folder / "sessions_tests" / "tests.py").exists():
        _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    downloads = folder / "downloads"
    wanted = f"Django=={django.__version__}"
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", downloads, wanted],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if fetched.returncode:
        message = f"the sources of {wanted} cannot be fetched: {fetched.stderr.strip().splitlines()[-1:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    (archive,) = downloads.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            path = Path(member.name)
            if path.parts[1:3] == ("tests", "sessions_tests") and (file := packed.extractfile(member)):
                (folder / "sessions_tests").mkdir(exist_ok=True)
                (folder / "sessions_tests" / path.name).write_bytes(file.read())
    archive.unlink()


@pytest.mark.nightly
def test_djangos_tests_of_sessions_pass_in_both_stores(sources: Path, emulator: str, tables: None) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.accounts.djangos_own", sources, emulator],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[0]) >= 2 * 76
