"""``manage.py prune``: delete what has expired."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.lib.errors import Unavailable
from controlplane.nosql.expiry import expired_delete


class Command(BaseCommand):
    help = (
        "Delete what has expired: sessions, tokens, idempotency keys, log chunks whose logs are archived, and whatever "
        "else has an end. DynamoDB does so by itself, within days. Reads whole tables."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            for table, deleted in expired_delete():
                self.stdout.write(f"{table}: {deleted} deleted")
        except Unavailable as error:
            raise CommandError(error.message) from error
