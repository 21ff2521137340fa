"""``manage.py stage_settings set|list|delete --stage STAGE``: the secrets of a stage on AWS."""

import getpass
import os
import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.checks import secret_key_weakness
from controlplane.lib.stage_secrets import SECRET_SETTINGS

if TYPE_CHECKING:
    from controlplane.deployment.secret_stores import SecretStore


class Command(BaseCommand):
    help = (
        "Store the secrets of a stage in Parameter Store, or in Secrets Manager if SECRETS_STORE says so. The value "
        "comes from standard input. Values are never printed. The function reads them when a process starts, so a new "
        "value counts for all of them after the next deployment."
    )
    # It acts on another stage than the one of these settings.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="set|list|delete")
        put = actions.add_parser("set", help="Store a secret. Its value is one line of standard input.")
        listing = actions.add_parser("list", help="Name the stored secrets, and when each was set.")
        delete = actions.add_parser("delete", help="Delete a secret for good.")
        for action in (put, delete):
            action.add_argument("name", choices=SECRET_SETTINGS, metavar="NAME", help=", ".join(SECRET_SETTINGS))
        for action in (put, listing, delete):
            action.add_argument("--stage", choices=["staging", "production"], required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from controlplane.deployment.secret_stores import secret_store
            from controlplane.deployment.stage_file import region_require
            from controlplane.infrastructure.clients import Account
            from controlplane.infrastructure.errors import InfrastructureError
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements/deploy.txt names.") from error
        try:
            account = Account(region_require(options["stage"]))
            store = secret_store(options["stage"], account, os.environ)
            getattr(self, f"_{options['action']}")(store, options)
        except InfrastructureError as error:
            raise CommandError(str(error)) from error

    def _set(self, store: "SecretStore", options: dict[str, Any]) -> None:
        from controlplane.deployment.secret_stores import secret_check

        name, stage = options["name"], options["stage"]
        value = _value(name)
        secret_check(name, value)
        keys = value.split(",") if name == "SECRET_KEY_FALLBACKS" else [value] if name == "SECRET_KEY" else []
        for key in keys:
            weakness = secret_key_weakness(key)
            if weakness:
                raise CommandError(f"{name} {weakness}.")
        store.set(name, value)
        self.stdout.write(f"Stored {name} of {stage}. Processes that start from now on use it.")

    def _list(self, store: "SecretStore", options: dict[str, Any]) -> None:
        found = store.stored()
        for secret in sorted(found, key=lambda secret: secret.name):
            self.stdout.write(f"{secret.name:<24}set {secret.changed:%Y-%m-%d %H:%M}")
        if not found:
            self.stdout.write(f"No secret of {options['stage']} is stored.")

    def _delete(self, store: "SecretStore", options: dict[str, Any]) -> None:
        store.delete(options["name"])
        self.stdout.write(f"Deleted {options['name']} of {options['stage']}.")


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{name}: ")
    return sys.stdin.readline().rstrip("\r\n")
