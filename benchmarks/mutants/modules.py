"""Which modules get faults, and which tests must notice them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

# What decides about jobs, people and agents, and what stands between it and the database.
_PLANTED = (
    "apps/*/services.py",
    "apps/*/services/*.py",
    "apps/accounts/session_store.py",
    "controlplane/nosql/*.py",
    "controlplane/lib/signatures.py",
    "agent/guard.py",
)
# Only code that runs nowhere but at the start of a process, or that has no decisions.
_LEFT_OUT = ("__init__.py",)


def planted_modules() -> list[str]:
    """The modules' paths from the root of the checkout, sorted."""
    found = {path for pattern in _PLANTED for path in ROOT.glob(pattern) if path.name not in _LEFT_OUT}
    return sorted(str(path.relative_to(ROOT)) for path in found)


def mirrored_tests(module: str) -> list[str]:
    """The test files of a module: those whose names say so.

    `apps/jobs/services/queue.py` has tests/jobs/test_queue.py and, if it needs more than one file,
    tests/jobs/test_queue_*.py. Raises LookupError if there is none.
    """
    path = Path(module)
    folders = [part for part in path.parts[:-1] if part not in ("apps", "services", "controlplane")]
    name = path.stem if path.stem != "services" else "services"
    folder = ROOT / "tests" / Path(*folders)
    found = [*folder.glob(f"test_{name}.py"), *sorted(folder.glob(f"test_{name}_*.py"))]
    if not found:
        raise LookupError(f"{module} has no tests: tests/{'/'.join(folders)}/test_{name}.py is missing")
    return [str(test.relative_to(ROOT)) for test in found]
