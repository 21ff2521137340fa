"""What import contracts cannot see: which parts of an app write and read records, and which know HTTP requests."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_WRITERS = frozenset({"services"})
# Services read what decides about a write of theirs; everything else is read by selectors.
_READERS = frozenset({"selectors", "services"})
_KNOW_REQUESTS = frozenset({"admin", "agent_api", "api", "authentication", "oauth", "pages", "views"})

_ALLOWED = frozenset(
    {
        # Django saves a session by its store's own method, which calls the services.
        ("apps/accounts/session_store.py", "self.save"),
        # The facade, which is a part of the models, finds users by e-mail address for django.contrib.auth.
        ("apps/accounts/models/users.py", "AccountClaim.find"),
        ("apps/accounts/models/users.py", "cls.find"),
        # What selectors and services call.
        ("controlplane/nosql/record.py", "cls.get"),
        ("controlplane/nosql/record.py", "cls.batch_get"),
        ("controlplane/nosql/record.py", "cls._get_connection().query"),
        # `manage.py prune`, for emulators that do not delete expired items.
        ("controlplane/nosql/expiry.py", "item.delete"),
    }
)

_WRITES = frozenset({"batch_write", "delete", "save"})
_READS = frozenset({"batch_get", "count", "find", "find_many", "get", "query", "scan", "stored_items"})
_WEB = frozenset({"django.http", "django.shortcuts"})


def breaches(root: Path) -> list[str]:
    """What under `root` breaks the rules, each as ``file:line: what``."""
    files = sorted((*root.glob("apps/*/**/*.py"), *root.glob("controlplane/nosql/**/*.py")))
    texts = {path.relative_to(root): path.read_text() for path in files}
    records = frozenset(name for text in texts.values() for name in _records(text))
    return [
        f"{path}:{line}: {what}" for path, text in texts.items() for line, what in _breaches_in(path, text, records)
    ]


@cache
def _records(text: str) -> tuple[str, ...]:
    """The names of all records that this code declares."""
    if "Record" not in text:
        return ()
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    return tuple(
        node.name for node in classes if any(isinstance(base, ast.Name) and base.id == "Record" for base in node.bases)
    )


@cache
def _breaches_in(path: Path, text: str, records: frozenset[str]) -> tuple[tuple[int, str], ...]:
    """Most files of a copy are those of the original, and are looked at once."""
    return tuple(_breaches_found(path, ast.parse(text), records))


def _breaches_found(path: Path, tree: ast.Module, records: frozenset[str]) -> Iterator[tuple[int, str]]:
    # apps/<app>/<part>.py or apps/<app>/<part>/…; of nosql, the module.
    part = path.with_suffix("").parts[2]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if part not in _WRITERS and _writes(node):
                found = "writes"
            elif part not in _READERS and _reads(node, records):
                found = "reads"
            else:
                continue
            called = ast.unparse(node.func)
            if (path.as_posix(), called) not in _ALLOWED:
                yield node.lineno, f"{called} {found}"
        elif isinstance(node, ast.stmt) and part not in _KNOW_REQUESTS and _imported(node) & _WEB:
            yield node.lineno, "it knows HTTP requests"


def _writes(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id == "Transaction"
    if not isinstance(call.func, ast.Attribute):
        return False
    with_actions = any(argument.arg == "actions" for argument in call.keywords)
    return call.func.attr in _WRITES or (call.func.attr == "update" and with_actions)


def _reads(call: ast.Call, records: frozenset[str]) -> bool:
    """Whether it is a call like ``Job.find(…)``, ``Job.by_open.query(…)`` or ``find_together(…)``."""
    if isinstance(call.func, ast.Name):
        return call.func.id == "find_together"
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _READS:
        return False
    owner = ast.unparse(call.func.value).partition(".")[0]
    return owner == "cls" or owner in records


def _imported(node: ast.stmt) -> set[str]:
    """The modules that a statement imports, and those that the names it imports may be."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return set()
    return {".".join(name.split(".")[:2]) for name in names}
