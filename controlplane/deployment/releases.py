"""Makes a version live: the end of `manage.py deploy`, and `manage.py release shift`."""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from controlplane.deployment.live import Live
from controlplane.deployment.provisioned import Provisioned
from controlplane.deployment.shift import version_shift
from controlplane.deployment.smoke import address_door, smoke_test, version_door
from controlplane.deployment.steps import api_address
from controlplane.deployment.watch import Watch
from controlplane.infrastructure.clients import Account
from controlplane.infrastructure.errors import InfrastructureError

Report = Callable[[str], None]


@dataclass(frozen=True)
class Release:
    """How versions of a stage become live.

    `address` is the stage's public address, None for AWS's own; `seconds` is how long each step is watched.
    """

    stage: str
    account: Account
    address: str | None
    seconds: float
    report: Report

    def publish(self, description: str, *, version: str | None) -> None:
        """Publish the uploaded code as a version, and make it live. `version` is the product's, None if unknown.

        Raises InfrastructureError when the version is not live in the end.
        """
        live = Live(self.stage, self.account)
        number = live.publish(description)
        state = live.state()
        if state.share(number) == 100:
            self.report(f"Version {number} is live and has this code and these settings already.")
            self._smoke_test(number, version)
            self._smoke_test_address(version)
            Provisioned(self.stage, self.account, settings.PROVISIONED_CONCURRENCY).follow()
        else:
            self.report(f"Version {number} is {description}.")
            self.shift(number, version=version, provisioned=settings.PROVISIONED_CONCURRENCY)
        pruned = live.prune()
        if pruned:
            self.report(f"Deleted old versions: {', '.join(pruned)}.")

    def first_check(self, *, version: str | None) -> None:
        """Request what every deployment must answer, of the version that was live at once, since it is the first one.

        Raises InfrastructureError for the first wrong response.
        """
        self._smoke_test(Live(self.stage, self.account).state().version, version)
        self._smoke_test_address(version)

    def shift(self, number: str, *, version: str | None = None, provisioned: int | None = None) -> None:
        """Make a published version live, guarded. Raises InfrastructureError when it is not live in the end.

        It gets `provisioned` ready processes first; None: as many as the live version has.
        """
        live = Live(self.stage, self.account)
        if live.state().share(number) == 100:
            raise InfrastructureError(f"Version {number} is live already.")
        watch = Watch(self.stage, self.account)
        self._smoke_test(number, version)
        ready = Provisioned(self.stage, self.account, provisioned)
        try:
            ready.prepare(number)
            version_shift(
                live,
                number,
                watch=watch,
                seconds=self.seconds,
                check=lambda: self._smoke_test_address(version),
                report=self.report,
            )
        finally:
            ready.follow()
        self.report(f"Version {number} is live.")

    def share(self, number: str, percent: int) -> None:
        """Send `percent` of the requests to a published version, without watching it."""
        live = Live(self.stage, self.account)
        state = live.state()
        if number == state.version:
            raise InfrastructureError(f"Version {number} gets the rest. Name another version, or run `rollback`.")
        self._smoke_test(number, None)
        self.report(str(live.move(state, number) if percent == 100 else live.lend(state, number, percent)))
        Provisioned(self.stage, self.account).follow()

    def _smoke_test(self, number: str, version: str | None) -> None:
        smoke_test(version_door(self.stage, self.account, number), stage=self.stage, version=version)
        self.report(f"Version {number} passes the smoke test.")

    def _smoke_test_address(self, version: str | None) -> None:
        address = self.address or api_address(self.stage, self.account)
        smoke_test(address_door(address), stage=self.stage, version=version)
        self.report(f"{address} passes the smoke test.")
