"""``manage.py secrets_rewrap``: encrypt all secrets, agents' keys and connections' secrets under the newest key."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.agents.services.key_rewrapping import agent_keys_rewrap
from apps.notifications.services.encryption import targets_rewrap
from apps.secrets.services.rewrapping import encryption_key_replace, secrets_rewrap
from apps.sources.services.connection_rewrapping import connections_rewrap
from controlplane.lib.actor import SYSTEM
from controlplane.lib.envelope import DecryptionFailed, keys_kept

# So many lines say how far it is, besides the last one.
_EACH = 100


class Command(BaseCommand):
    help = (
        "Encrypt all secrets, and those of agents and connections, anew that an earlier key has encrypted. It may be "
        "stopped and run again. "
        "With --new-key, a new key is put into KEY_FILE first; KMS replaces its own keys."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="replace the key in KEY_FILE first")

    def handle(self, *args: Any, new_key: bool, **options: Any) -> None:
        if new_key:
            if settings.KMS_KEY_ID:
                raise CommandError("KMS_KEY_ID is set: KMS keeps the key, and rotates it each year.")
            self.stdout.write(f"The key {encryption_key_replace(actor=SYSTEM)} encrypts from now on.")
        self._done = 0
        try:
            count = sum(
                rewrap(progress=self._progress)
                for rewrap in (secrets_rewrap, agent_keys_rewrap, targets_rewrap, connections_rewrap)
            )
        except DecryptionFailed as error:
            raise CommandError(
                f"A text cannot be decrypted: {error}. Restore the file of its key, or set the secret's value again."
            ) from error
        self.stdout.write(f"{self._done} secrets, agents and connections looked at, {count} texts encrypted anew.")
        for key_id, path in keys_kept().items():
            self.stdout.write(f"No text needs the key {key_id} any more. Keep {path} as long as you keep backups.")

    def _progress(self, _name: str) -> None:
        self._done += 1
        if self._done % _EACH == 0:
            self.stdout.write(f"{self._done} secrets, agents and connections looked at")
