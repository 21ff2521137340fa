"""``manage.py release list|shift|rollback --stage STAGE``: which version of the function is live."""

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

if TYPE_CHECKING:
    from controlplane.infrastructure.clients import Account


class Command(BaseCommand):
    help = (
        "Show the versions of a stage and what part of the requests each one gets, bring one live, or go back to the "
        "one before. Exit codes: 0 done; 1 refused or failed, with the reason and what is live now."
    )
    # It acts on another stage than the one of these settings.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|shift|rollback")
        listing = actions.add_parser("list", help="Say which versions there are, and what each one gets.")
        shift = actions.add_parser("shift", help="Bring a version live: 10 %% first, watched, and back when it fails.")
        rollback = actions.add_parser("rollback", help="Give all to the version that was live before, at once.")
        for action in (listing, shift, rollback):
            action.add_argument("--stage", choices=["staging", "production"], required=True)
        shift.add_argument("--to", metavar="VERSION", required=True, help="a number that `list` shows")
        shift.add_argument("--percent", type=int, help="give it just this part and watch nothing")
        shift.add_argument("--url", help="the stage's own address, for the smoke tests (default: AWS's)")
        shift.add_argument(
            "--watch",
            type=float,
            default=300,
            metavar="SECONDS",
            help="how long the alarms are watched at 10 %%, and again at all of the traffic (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from controlplane.deployment.stage_file import region_require
            from controlplane.infrastructure.clients import Account
            from controlplane.infrastructure.errors import InfrastructureError
        except ImportError as error:
            raise CommandError(f"{error}. This needs what requirements/deploy.txt names.") from error
        try:
            getattr(self, f"_{options['action']}")(Account(region_require(options["stage"])), options)
        except InfrastructureError as error:
            raise CommandError(str(error)) from error

    def _list(self, account: "Account", options: dict[str, Any]) -> None:
        from controlplane.deployment.live import Live

        live = Live(options["stage"], account)
        state = live.state()
        for version in live.versions():
            share = state.share(version.number)
            part = f"{share} %" if share else "before" if version.number in state.before[:1] else ""
            self._say(f"{version.number:>5}  {version.published[:19]}  {part:>6}  {version.description}")

    def _shift(self, account: "Account", options: dict[str, Any]) -> None:
        from controlplane.deployment.releases import Release

        release = Release(options["stage"], account, options["url"], options["watch"], self._say)
        percent = options["percent"]
        if percent is None:
            release.shift(options["to"])
        elif 1 <= percent <= 100:
            release.share(options["to"], percent)
        else:
            raise CommandError("--percent is a whole number from 1 to 100.")

    def _rollback(self, account: "Account", options: dict[str, Any]) -> None:
        from controlplane.deployment.live import Live
        from controlplane.deployment.provisioned import Provisioned

        live = Live(options["stage"], account)
        provisioned = Provisioned(options["stage"], account)
        self._say(str(live.go_back()))
        # The rollback does not wait until the processes are ready.
        provisioned.follow()

    def _say(self, text: str) -> None:
        # At once: a shift takes minutes.
        self.stdout.write(text)
        self.stdout.flush()
