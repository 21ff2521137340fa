"""``manage.py deploy --stage STAGE``: infrastructure, package, function, API, and a look at whether it answers."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Bring a stage to AWS, or bring it up to date. The function gets the settings that are in this environment. "
        "Stops at the first thing that is missing."
    )
    # Those of the stage are checked, not those of this machine.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--stage", choices=["staging", "production"], required=True)
        parser.add_argument("--url", help="the stage's own address, for the smoke tests (default: AWS's)")
        parser.add_argument("--yes", action="store_true", help="do not ask before the infrastructure changes")

    def handle(self, *args: Any, stage: str, url: str | None, yes: bool, **options: Any) -> None:
        try:
            from controlplane import deployment
            from controlplane.infrastructure.clients import Account
            from controlplane.infrastructure.errors import InfrastructureError
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements-dev.txt names.") from error
        try:
            deployment.settings_require(stage, os.environ)
            account = Account(settings.AWS_REGION)
            self.stdout.write(f"{stage} in {account.region}, account {account.number}, as {account.principal}")
            deployment.infrastructure_deploy(stage, agreed=yes)
            deployment.function_deploy(stage, account)
            # Only now is there an API for the alarms to watch.
            deployment.infrastructure_deploy(stage, agreed=yes)
            address = url or deployment.api_address(stage, account)
            deployment.smoke_test(address, stage=stage, version=settings.VERSION, tell=self.stdout.write)
        except InfrastructureError as error:
            raise CommandError(str(error)) from error
