"""`make mutants`: how many planted faults the tests notice, module by module.

Each module gets some faults by chance, one at a time, and the test files that are named for it must fail. What they do
not notice is printed with its line: either the tests are mended, or the code says the same without it.

    make mutants
    make mutants MUTANTS='--only apps/jobs/services --each 20 --seed 7'
"""

import argparse
import difflib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from benchmarks.mutants.faults import Fault, faults_chosen
from benchmarks.mutants.modules import ROOT, mirrored_tests, planted_modules
from benchmarks.mutants.trial import Copy, TestsFail

GOAL_PERCENT = 90


@dataclass
class Tally:
    """What became of a module's faults."""

    planted: int = 0
    survivors: list[Fault] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.planted - len(self.survivors)


def main() -> int:
    """Plant, print the table, and return 1 when fewer faults were noticed than the goal."""
    options = _options()
    modules = [module for module in planted_modules() if any(module.startswith(only) for only in options.only)]
    # When the time is too short, other modules go without faults each day.
    random.Random(options.seed).shuffle(modules)
    print(f"seed {options.seed}, at most {options.each} faults a module, {options.minutes} minutes", flush=True)
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="mutants-") as name, _copies(Path(name), options.workers) as copies:

        def tried(module: str) -> Tally:
            copy = copies.get()
            try:
                return _module_try(copy, module, each=options.each, seed=options.seed, deadline=deadline)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.workers) as pool:
            tallies = dict(zip(modules, pool.map(tried, modules), strict=True))
    return _report(tallies)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=8, help="faults for a module; default 8")
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of paths; default: all modules")
    parser.add_argument("--seed", default=time.strftime("%Y-%m-%d"), help="another seed chooses others; default: today")
    parser.add_argument("--minutes", type=float, default=45, help="after these it plants no more; default 45")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="default: one for each core")
    return parser.parse_args()


@contextmanager
def _copies(folder: Path, number: int) -> Iterator[SimpleQueue[Copy]]:
    copies: SimpleQueue[Copy] = SimpleQueue()
    for index in range(number):
        (folder / str(index)).mkdir()
        copies.put(Copy(folder / str(index)))
    yield copies


def _module_try(copy: Copy, module: str, *, each: int, seed: str, deadline: float) -> Tally:
    tally = Tally()
    source = (ROOT / module).read_text()
    tests = mirrored_tests(module)
    faults = faults_chosen(source, most=each, seed=f"{seed} {module}")
    if not faults or time.monotonic() > deadline:
        return tally
    try:
        usual = copy.seconds(tests)
    except TestsFail as error:
        sys.exit(f"{' '.join(tests)}: these tests fail without any fault, so they cannot judge one.\n{error}")
    for fault in faults:
        if time.monotonic() > deadline:
            break
        tally.planted += 1
        if copy.survives(module, fault, tests, usual=usual):
            tally.survivors.append(fault)
            print(_survivor(module, source, fault), flush=True)
    print(f"{module}: {tally.killed} of {tally.planted} killed", flush=True)
    return tally


def _survivor(module: str, source: str, fault: Fault) -> str:
    changed = fault.planted(source)
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm="")
    changes = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return "\n".join([f"survived: {module}:{fault.line} {fault.operator.__name__}", *changes])


def _report(tallies: dict[str, Tally]) -> int:
    planted = sum(tally.planted for tally in tallies.values())
    killed = sum(tally.killed for tally in tallies.values())
    percent = 100 * killed / planted if planted else 0.0
    print("\n| module | planted | killed |\n|---|---|---|")
    for module, tally in sorted(tallies.items()):
        print(f"| {module} | {tally.planted} | {tally.killed} |")
    print(f"| all | {planted} | {killed} ({percent:.0f} %; goal ≥ {GOAL_PERCENT} %) |")
    return 0 if percent >= GOAL_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
