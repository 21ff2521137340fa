"""A database backend without a database. Django's transactions do nothing, and SQL statements raise SqlRefused."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NoReturn

from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.client import BaseDatabaseClient
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.backends.base.features import BaseDatabaseFeatures
from django.db.backends.base.introspection import BaseDatabaseIntrospection
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.utils import NotSupportedError


class SqlRefused(NotSupportedError, CommandError):
    """Code tried to use an SQL database. As a CommandError it ends a ``manage.py`` command with the message alone."""

    def __init__(self, wanted: str) -> None:
        super().__init__(
            f"There is no SQL database: records are in DynamoDB (controlplane.nosql). Refused: {wanted.strip()[:200]}"
        )


def _refuse(wanted: str) -> Any:
    def refusal(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise SqlRefused(wanted)

    return refusal


class _Cursor(AbstractContextManager["_Cursor"]):
    """A cursor that refuses every statement. Django opens one to look for its table of migrations."""

    def execute(self, sql: str, *_params: Any) -> NoReturn:
        raise SqlRefused(sql)

    def executemany(self, sql: str, *_params: Any) -> NoReturn:
        raise SqlRefused(sql)

    def callproc(self, name: str, *_params: Any) -> NoReturn:
        raise SqlRefused(name)

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: no connection is open."""


class DatabaseFeatures(BaseDatabaseFeatures):
    supports_transactions = False
    uses_savepoints = False


class DatabaseOperations(BaseDatabaseOperations):
    sql_flush = _refuse("emptying tables")

    def quote_name(self, name: str) -> str:
        return f'"{name}"'

    def compiler(self, compiler_name: str) -> Any:
        """A compiler that refuses queries and names their model. An empty query (``none()``) needs no SQL and runs."""
        real: Any = super().compiler(compiler_name)

        def made(query: Any, *args: Any, **kwargs: Any) -> Any:
            if query.is_empty():
                return real(query, *args, **kwargs)
            raise SqlRefused(f"a query of {query.model._meta.label}")

        return made


class DatabaseClient(BaseDatabaseClient):
    runshell = _refuse("an SQL shell")


class DatabaseCreation(BaseDatabaseCreation):
    """Django's test runner creates no database."""

    def create_test_db(self, *_args: Any, **_kwargs: Any) -> str:
        return "none"

    def destroy_test_db(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing: there is no test database."""


class DatabaseIntrospection(BaseDatabaseIntrospection):
    def get_table_list(self, _cursor: Any) -> list[Any]:
        return []


class DatabaseWrapper(BaseDatabaseWrapper):
    """The connection. ``transaction.atomic`` and ``on_commit`` run, but group no writes.

    Writes that belong together go into one `controlplane.nosql.transaction.Transaction`.
    """

    vendor = "none"
    display_name = "no SQL database"
    client_class = DatabaseClient
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocommit = True

    def prepare_database(self) -> None:
        """Raises SqlRefused: ``manage.py migrate`` calls this first."""
        raise SqlRefused("migrations. There is nothing to migrate: the tables are made from the records")

    def cursor(self) -> Any:
        return _Cursor()

    def chunked_cursor(self) -> Any:
        return _Cursor()

    def connect(self) -> None:
        """Do nothing: there is no database to connect to."""

    def ensure_connection(self) -> None:
        """Do nothing: there is no database to connect to."""

    def is_usable(self) -> bool:
        return True

    def _set_autocommit(self, autocommit: bool) -> None:
        """Do nothing: Django keeps the flag itself."""
