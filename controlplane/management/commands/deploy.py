"""``manage.py deploy --stage STAGE``: infrastructure, package, function, API; then the new version goes live."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Bring a stage to AWS, or bring it up to date. The function gets the settings that are in this environment. "
        "Stops at the first thing that is missing. A new version gets a part of the traffic first, and none when "
        "something is wrong with it. Exit codes: 0 the version is live; 1 it is not, and the output says why."
    )
    # Those of the stage are checked, not those of this machine.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--stage", choices=["staging", "production"], required=True)
        parser.add_argument("--url", help="the stage's own address, for the smoke tests (default: STAGE_URL, or AWS's)")
        parser.add_argument("--yes", action="store_true", help="do not ask before the infrastructure changes")
        parser.add_argument("--package", type=Path, help="deploy this file of `make package`, and build none")
        parser.add_argument("--sha256", metavar="DIGEST", help="refuse a --package with another digest")
        parser.add_argument(
            "--forward-only",
            action="store_true",
            help="refuse a commit that does not have the live version's among its ancestors",
        )
        parser.add_argument(
            "--watch",
            type=float,
            metavar="SECONDS",
            help="how long the alarms are watched at 10 %%, and again at all of the traffic (default: "
            "RELEASE_WATCH_SECONDS, or 300)",
        )

    def handle(self, *args: Any, stage: str, url: str | None, yes: bool, watch: float | None, **options: Any) -> None:
        try:
            from controlplane.deployment import promotion, steps
            from controlplane.deployment.live import Live
            from controlplane.deployment.releases import Release
            from controlplane.deployment.revision import revision_describe
            from controlplane.deployment.stage_file import region_require
            from controlplane.infrastructure.clients import Account
            from controlplane.infrastructure.errors import InfrastructureError
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements/deploy.txt names.") from error
        try:
            region = region_require(stage)
            if options["package"]:
                # Zappa's command reads it.
                os.environ["PACKAGE_FILE"] = str(promotion.package_require(options["package"], options["sha256"]))
            steps.settings_require(stage, os.environ)
            seconds = steps.watch_seconds(os.environ) if watch is None else watch
            account = Account(region)
            steps.secrets_require(stage, account, os.environ)
            self._say(f"{stage} in {account.region}, account {account.number}, as {account.principal}")
            if options["forward_only"]:
                promotion.forward_require(Live(stage, account))
            steps.infrastructure_deploy(stage, agreed=yes)
            steps.function_deploy(stage, account)
            # Only now is there an API for the alarms to watch.
            steps.infrastructure_deploy(stage, agreed=yes)
            release = Release(stage, account, url or os.environ.get("STAGE_URL"), seconds, self._say)
            release.publish(revision_describe(settings.VERSION), version=settings.VERSION)
            # Not before, since the version before this one may not have the functions of new rules.
            steps.schedules_deploy(stage)
        except InfrastructureError as error:
            raise CommandError(str(error)) from error

    def _say(self, text: str) -> None:
        # At once, since other programs write in between.
        self.stdout.write(text)
        self.stdout.flush()
