"""``manage.py deployer``: the template of the roles with which GitHub Actions deploys."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "Print the CloudFormation template of the roles with which GitHub Actions deploys; an administrator makes the "
        "stack once. Needs no credentials."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from controlplane.infrastructure.deployer import deployer_template
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements/deploy.txt names.") from error
        self.stdout.write(deployer_template().to_yaml())
