"""``manage.py audit_prove``: print the proof that an event is in the trail."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.selectors.proofs import event_proof
from controlplane.lib.errors import ApplicationError


class Command(BaseCommand):
    help = (
        "Print a proof, as JSON, that an event is in the sealed trail. docs/audit_check.py checks it with the public "
        "key of audit_public_key alone."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("event", help="the id of the event, as the API and exports name it")

    def handle(self, *args: Any, event: str, **options: Any) -> None:
        try:
            proof = event_proof(event)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        self.stdout.write(json.dumps(proof, indent=2, ensure_ascii=False))
