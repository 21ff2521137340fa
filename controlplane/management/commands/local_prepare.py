"""``manage.py local_prepare``: what ``manage.py local`` needs in its database before the server starts."""

import json
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.services import api_token_create, api_token_verify, user_create
from apps.agents.services import enrolment_token_create
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import ApplicationError, Conflict, NotAuthenticated
from controlplane.local.state import write_private
from controlplane.nosql.tables import create_tables

PIPELINE = "self"
# As long as a state directory may be of use.
_ENROLMENT_LASTS = timedelta(days=3650)
_ENROLMENT_USES = 10_000


class Command(BaseCommand):
    help = "Make tables, an admin, an API token, an enrolment token and the pipeline `self`; `local` calls it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--credentials", type=Path, required=True, help="file that keeps what was made")
        parser.add_argument("--url", required=True, help="address of the web server")
        parser.add_argument("--repository", required=True, help="URL of the repository of the pipeline `self`")
        parser.add_argument("--ref", required=True, help="branch, tag or commit that it builds")

    def handle(self, *args: Any, **options: Any) -> None:
        for what in create_tables():
            self.stdout.write(what)
        try:
            credentials = _existing(options["credentials"]) or _make()
            write_private(options["credentials"], json.dumps({"url": options["url"], **credentials}, indent=2))
            pipeline_save(
                actor=api_token_verify(credentials["api_token"]),
                name=PIPELINE,
                repository=options["repository"],
                default_ref=options["ref"],
                definition=None,
            )
        except ApplicationError as error:
            raise CommandError(error.message) from error


def _existing(path: Path) -> dict[str, str] | None:
    """The credentials of an earlier start, if this database knows them."""
    try:
        credentials: dict[str, str] = json.loads(path.read_text())
        api_token_verify(credentials["api_token"])
    except (FileNotFoundError, ValueError, KeyError, NotAuthenticated):
        return None
    return {name: value for name, value in credentials.items() if name != "url"}


def _make() -> dict[str, str]:
    password = secrets.token_urlsafe(15)
    try:
        user = user_create(email="admin@example.com", password=password, name="Local admin", role="admin", actor=SYSTEM)
    except Conflict:
        # The password of the first one went with an earlier credentials file.
        email = f"admin-{secrets.token_hex(3)}@example.com"
        user = user_create(email=email, password=password, name="Local admin", role="admin", actor=SYSTEM)
    _, api_token = api_token_create(user=user, name="local", actor=SYSTEM)
    _, enrolment_token = enrolment_token_create(
        name="make run",
        uses=_ENROLMENT_USES,
        expires_at=clock.now() + _ENROLMENT_LASTS,
        actor=api_token_verify(api_token),
    )
    return {
        "email": user.email,
        "password": password,
        "api_token": api_token,
        "enrolment_token": enrolment_token,
    }
