"""Moving a stage to another version, a part first, and back by itself when that goes wrong."""

from collections.abc import Callable

from controlplane.deployment.live import Live, MovedByOthers, State
from controlplane.deployment.watch import Watch
from controlplane.infrastructure.errors import InfrastructureError

# At first so many of a hundred requests.
FIRST_PERCENT = 10

Tell = Callable[[str], None]


def version_shift(
    live: Live, version: str, *, watch: Watch, seconds: float, check: Callable[[], None], tell: Tell
) -> None:
    """Give `version` a part of the requests, then all, and watch each time for so many seconds; `check` asks it then.

    Raises InfrastructureError, after having gone back, when an alarm goes off or anything else fails, also when
    the person who waits interrupts. When somebody else moves the alias meanwhile, theirs stands.
    """
    earlier = now = live.state()
    for name in watch.ringing:
        tell(f"{name} rings already, so it cannot tell whether this version is good.")
    try:
        now = live.lend(now, version, FIRST_PERCENT)
        tell(f"{now} Watching for {seconds:g} s.")
        watch.keep(version, seconds)
        now = live.move(now, version)
        tell(f"{now} Watching for {seconds:g} s.")
        check()
        watch.keep(version, seconds)
    except MovedByOthers:
        raise
    except (InfrastructureError, KeyboardInterrupt) as error:
        reason = str(error) or "Interrupted."
        raise InfrastructureError(f"{reason} {_restored(live, now, earlier)}") from error
    except BaseException:
        tell(_restored(live, now, earlier))
        raise


def _restored(live: Live, now: State, earlier: State) -> str:
    """Go back; returns how that went."""
    try:
        return f"Went back: {live.restore(now, earlier)}"
    except InfrastructureError as error:
        return f"Going back failed, too: {error} Now: manage.py release rollback --stage {live.stage}"
