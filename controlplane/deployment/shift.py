"""Shifts a stage to another version, first in part, and rolls back when that fails."""

from collections.abc import Callable

from controlplane.deployment.live import Live, MovedByOthers, State
from controlplane.deployment.watch import Watch
from controlplane.infrastructure.errors import InfrastructureError

# The first step gives so many per cent of the requests to the version.
FIRST_PERCENT = 10

Report = Callable[[str], None]


def version_shift(
    live: Live, version: str, *, watch: Watch, seconds: float, check: Callable[[], None], report: Report
) -> None:
    """Send a part of the requests to `version`, then all, and watch each step for `seconds`.

    `check` runs when all requests go to `version`. Raises InfrastructureError after a rollback when an alarm becomes
    active or anything else fails, also for an interrupt. A change of the alias by another process is kept.
    """
    earlier = now = live.state()
    for name in watch.active:
        report(f"The alarm {name} is active already, so it cannot judge this version.")
    try:
        now = live.lend(now, version, FIRST_PERCENT)
        report(f"{now} Watching for {seconds:g} s.")
        watch.keep(version, seconds)
        now = live.move(now, version)
        report(f"{now} Watching for {seconds:g} s.")
        check()
        watch.keep(version, seconds)
    except MovedByOthers:
        raise
    except (InfrastructureError, KeyboardInterrupt) as error:
        reason = str(error) or "Interrupted."
        raise InfrastructureError(f"{reason} {_restored(live, now, earlier)}") from error
    except BaseException:
        report(_restored(live, now, earlier))
        raise


def _restored(live: Live, now: State, earlier: State) -> str:
    """Roll back and return the result."""
    try:
        return f"Rolled back: {live.restore(now, earlier)}"
    except InfrastructureError as error:
        return f"The rollback failed, too: {error} Now run: manage.py release rollback --stage {live.stage}"
