"""``manage.py create_tables``: the tables that the records declare, at whatever DynamoDB AWS_ENDPOINT_URL names."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from controlplane.checks import EXPOSED_STAGES
from controlplane.nosql.tables import create_tables


class Command(BaseCommand):
    help = (
        "Make each table that is missing, and add the indexes and the TTL that those of an earlier version lack. "
        "Not for staging and production, whose tables belong to their stack."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STAGE in EXPOSED_STAGES:
            raise CommandError(
                f"The tables of {settings.STAGE} belong to its stack, with their keys and backups. "
                f"Say instead: manage.py infrastructure deploy --stage {settings.STAGE}"
            )
        done = False
        for what in create_tables():
            self.stdout.write(what)
            self.stdout.flush()
            done = True
        if not done:
            self.stdout.write("All tables are there, with all that belongs to them.")
