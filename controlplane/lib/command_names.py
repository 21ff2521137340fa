"""Django's commands that make no sense here, and the command to use instead."""

_NO_SQL = "There is no SQL database"
_TABLES = f"{_NO_SQL}: `manage.py create_tables` makes the tables, and the stack of a stage has its own."
_DATA = f"{_NO_SQL}: backups of the tables are point-in-time recovery, see docs/operations.md, Restore."

_INSTEAD = {
    "changepassword": "Users are not in SQL. Type: manage.py set_password EMAIL",
    "createcachetable": f"{_NO_SQL}, and the cache is in the memory of each process. Nothing is to be done.",
    "createsuperuser": "Users are not in SQL. Type: manage.py create_admin EMAIL",
    "dbshell": f"{_NO_SQL}. Read a table with: aws dynamodb query --table-name TABLE …",
    "dumpdata": _DATA,
    "flush": f"{_NO_SQL}, and no command empties the tables. See docs/operations.md, Infrastructure.",
    "inspectdb": f"{_NO_SQL}. The records are in apps/*/models.",
    "loaddata": _DATA,
    "makemigrations": f"{_NO_SQL}, so there are no migrations. {_TABLES.split(': ')[1].capitalize()}",
    "migrate": _TABLES,
    "optimizemigration": _TABLES,
    "remove_stale_contenttypes": f"{_NO_SQL}. Nothing is to be done.",
    "showmigrations": _TABLES,
    "sqlflush": f"{_NO_SQL}. Type: manage.py infrastructure show --stage STAGE",
    "sqlmigrate": f"{_NO_SQL}. Type: manage.py infrastructure show --stage STAGE",
    "sqlsequencereset": f"{_NO_SQL}. Nothing is to be done.",
    "squashmigrations": _TABLES,
    "clearsessions": "DynamoDB deletes expired sessions. On an emulator, type: manage.py prune",
}
REFUSED_COMMANDS = frozenset(_INSTEAD)


def command_instead(name: str) -> str | None:
    """A sentence that says what to use instead of this command of Django, or None for a command that makes sense."""
    return _INSTEAD.get(name)
