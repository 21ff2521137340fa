"""``manage.py create_tables``: the tables that the records declare, at whatever DynamoDB AWS_ENDPOINT_URL names."""

from typing import Any

from django.core.management.base import BaseCommand

from controlplane.nosql.tables import create_tables


class Command(BaseCommand):
    help = "Make each table of this stage that is missing, with its indexes and TTL."

    def handle(self, *args: Any, **options: Any) -> None:
        made = list(create_tables())
        for table in made:
            self.stdout.write(f"made {table}")
        self.stdout.write(f"{len(made)} tables made." if made else "All tables are there.")
