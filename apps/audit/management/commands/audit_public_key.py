"""``manage.py audit_public_key``: print the keys by which seals are checked."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.audit.seals import key_pem
from apps.audit.selectors.seals import seal_keys, trusted_keys
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Print the public keys (PEM) of all seals of the audit trail: those that sign now, and those from before a "
        "rotation. Keep them where the control plane cannot write."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            keys = {**trusted_keys(), **seal_keys()}
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write("".join(key_pem(key) for key in keys.values()), ending="")
