"""Runs tests against a copy of the checkout that has a fault."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.mutants.faults import Fault
from benchmarks.mutants.modules import ROOT

# The first run imports everything and starts the emulator.
_PATIENCE_SECONDS = 20.0


class TestsFail(Exception):
    """The tests fail without any fault, so they cannot judge one. The text is the end of their output."""

    __test__ = False


class Copy:
    """A copy of all files that git knows, for one trial at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        packed = subprocess.run(
            ["tar", "--create", "--null", "--files-from=-"], cwd=ROOT, input=files, capture_output=True, check=True
        )
        subprocess.run(["tar", "--extract"], cwd=folder, input=packed.stdout, check=True)

    def seconds(self, tests: Sequence[str]) -> float:
        """How long the tests take without a fault. Raises TestsFail."""
        started = time.monotonic()
        passed, output = self._run(tests, limit=600)
        if not passed:
            raise TestsFail(output[-2000:])
        return time.monotonic() - started

    def survives(self, module: str, fault: Fault, tests: Sequence[str], *, usual: float) -> bool:
        """Whether the tests pass though the module has the fault. Tests that hang have noticed it.

        `usual` is how many seconds they take without it.
        """
        path = self.folder / module
        source = path.read_text()
        # Python takes compiled code for current by the file's size and second.
        compiled = Path(importlib.util.cache_from_source(str(path)))
        try:
            path.write_text(fault.planted(source))
            compiled.unlink(missing_ok=True)
            return self._run(tests, limit=3 * usual + _PATIENCE_SECONDS)[0]
        finally:
            path.write_text(source)
            compiled.unlink(missing_ok=True)

    def _run(self, tests: Sequence[str], *, limit: float) -> tuple[bool, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", *tests],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests start processes of their own, which a hanging test leaves behind.
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False, "the tests did not end"
        return process.returncode == 0, output
