"""The database backend without a database: what works as a code path, and how SQL is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from controlplane.nosql.backend.base import SqlRefused
from tests.commands import command as run_command

MESSAGE = "There is no SQL database"


@pytest.mark.parametrize("model", [ContentType, Permission, Group])
@pytest.mark.parametrize(
    "use",
    [
        lambda model: list(model.objects.all()),
        lambda model: model.objects.count(),
        lambda model: model.objects.filter(pk=1).exists(),
        lambda model: model.objects.create(),
        lambda model: model(pk=1).save(),
        lambda model: model.objects.filter(pk=1).delete(),
        lambda model: model.objects.filter(pk=1).update(id=2),
    ],
    ids=["list", "count", "exists", "create", "save", "delete", "update"],
)
def test_what_would_need_sql_is_refused_in_words(model: type, use: Callable[[type], object]) -> None:
    with pytest.raises(SqlRefused, match=MESSAGE):
        use(model)


@pytest.mark.parametrize("model", [ContentType, Permission, Group])
def test_a_query_that_is_known_to_find_nothing_needs_no_sql(model: Any) -> None:
    assert list(model.objects.none()) == []
    assert not model.objects.none().exists()


def test_raw_sql_is_refused_with_what_was_asked() -> None:
    with connection.cursor() as cursor, pytest.raises(SqlRefused, match="select 1"):
        cursor.execute("select 1")


def test_atomic_runs_its_block_and_what_waits_for_its_end() -> None:
    done = []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append("after"))
        with transaction.atomic():
            done.append("inside")
    assert done == ["inside", "after"]


def test_an_error_leaves_atomic_and_drops_what_waited() -> None:
    done = []

    def fail() -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: done.append("after"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert done == []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append("next"))
    assert done == ["next"]


def test_atomic_requests_and_durable_blocks_are_let_through() -> None:
    with transaction.atomic(durable=True), transaction.atomic(savepoint=False):
        assert connection.in_atomic_block
    assert not connection.in_atomic_block


@pytest.mark.parametrize("command", ["migrate", "flush", "dbshell", "sqlflush"])
def test_commands_for_sql_end_with_one_clear_sentence(command: str) -> None:
    arguments = [command, "--no-input"] if command == "flush" else [command]
    ended = run_command(*arguments)
    assert ended.returncode == 1
    assert MESSAGE in ended.stderr
    assert "Traceback" not in ended.stderr


def test_migrate_says_that_there_is_nothing_to_migrate() -> None:
    with pytest.raises(CommandError, match="nothing to migrate"):
        call_command("migrate", skip_checks=True)


def test_no_migration_is_ever_wanted() -> None:
    ended = run_command("makemigrations", "--check")
    assert ended.returncode == 0, ended.stderr
    assert "No changes detected" in ended.stdout
