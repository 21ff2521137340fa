"""``manage.py list_sessions``: list the sessions of a user."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.management.users import user_named
from apps.accounts.selectors import session_list

PAGE_SIZE = 100


class Command(BaseCommand):
    help = "List the sessions of a user: one line for each, newest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the e-mail address of the user")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        user = user_named(email)
        if settings.SESSION_STORE == "memory":
            raise CommandError("With SESSION_STORE=memory only the server's process can list its sessions.")
        page = session_list(user.user_id, limit=PAGE_SIZE)
        if not page.total:
            self.stderr.write(f"{email} has no sessions.")
        while True:
            for session in page.sessions:
                self.stdout.write(
                    f"{session.device_id}  signed in {session.created_at}  last seen {session.last_seen_at}  "
                    f"{session.address or 'unknown address'}  {session.device or 'unknown device'}"
                )
            if page.next_cursor is None:
                return
            page = session_list(user.user_id, limit=PAGE_SIZE, cursor=page.next_cursor)
