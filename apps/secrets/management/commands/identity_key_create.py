"""``manage.py identity_key_create``: replace the key that signs identity tokens, before its time."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.secrets.services.identity_keys import identity_key_create
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import Unavailable


class Command(BaseCommand):
    help = (
        "Create the next key that signs identity tokens, on a machine whose keys are files. It is published at once, "
        "and signs a day later. The sweep does the same every 90 days."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = identity_key_create(actor=SYSTEM)
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        except Unavailable as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"The key {key.key_id} is published, and signs from {key.signs_from:%Y-%m-%d %H:%M} UTC on.")
