"""``manage.py list_sessions``: where a person is signed in."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.people import person
from apps.accounts.selectors import session_list


class Command(BaseCommand):
    help = "List the sessions of a person: a line for each, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        user = person(email)
        if settings.SESSION_STORE == "memory":
            raise CommandError("With SESSION_STORE=memory only the server's own process knows its sessions.")
        sessions = session_list(user.user_id)
        for session in sessions:
            self.stdout.write(
                f"{session.device_id}  signed in {session.created_at}  last seen {session.last_seen_at}  "
                f"{session.address or 'unknown address'}  {session.device or 'unknown device'}"
            )
        if not sessions:
            self.stderr.write(f"{email} is signed in nowhere.")
