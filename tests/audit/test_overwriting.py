"""No code changes or deletes what the trail has: neither an event nor a seal."""

import ast
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

RECORDS = {"AuditRecord", "HeldEvents", "SealKey", "SealLeaves", "SealRecord"}
ROOT = Path(settings.BASE_DIR)
# Where each of them is made, which is before it is written.
MAKERS = {
    "AuditRecord": {"apps/audit/services/__init__.py"},
    "HeldEvents": {"apps/audit/services/holds.py"},
    "SealKey": {"apps/audit/services/sealing.py"},
    "SealLeaves": {"apps/audit/services/sealing.py"},
    "SealRecord": {"apps/audit/services/sealing.py"},
}
# What reads, and what makes a record of an item that was read.
READS = {"find", "find_many", "from_raw_data", "query", "stored_items"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((*ROOT.glob("apps/**/*.py"), *ROOT.glob("controlplane/**/*.py"))):
        if any(name in (text := path.read_text()) for name in RECORDS):
            yield path.relative_to(ROOT).as_posix(), ast.parse(text)


def test_only_audit_add_makes_audit_events_and_only_sealing_makes_seals() -> None:
    made: dict[str, set[str]] = {}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RECORDS:
                made.setdefault(node.func.id, set()).add(path)
    assert made == MAKERS


def test_no_code_calls_a_method_that_writes_on_an_audit_event_or_a_seal() -> None:
    called = {
        (path, f"{node.func.value.id}.{node.func.attr}")
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in RECORDS
        and node.func.attr not in READS
    }
    assert called == set()


def test_copies_of_held_events_are_saved_only_where_there_is_none() -> None:
    saves = [
        ast.unparse(node)
        for node in ast.walk(ast.parse((ROOT / "apps/audit/services/holds.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "save"
    ]
    assert saves == ["pack.save(condition=HeldEvents.day.does_not_exist())"]


def test_what_makes_them_only_puts_them_into_transactions() -> None:
    """A put of a transaction has the condition that there is no such item, unless it names another one."""
    for path in sorted(set().union(*MAKERS.values()) - MAKERS["HeldEvents"]):
        tree = ast.parse((ROOT / path).read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        methods = [node.func.attr for node in calls if isinstance(node.func, ast.Attribute)]
        assert not {"batch_write", "delete", "save", "update"} & set(methods), path
        puts = [node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == "put"]
        with_condition = [ast.unparse(node.args[1]) for node in puts if node.keywords or len(node.args) > 2]
        # The same key once more is no change.
        assert [text for text in with_condition if not text.startswith("SealKey(")] == [], path
