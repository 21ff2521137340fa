"""Cron expressions in a time zone, with ``H`` for a time that each schedule gets by its id.

The rules for daylight saving are those of decision 48: a schedule for certain hours follows the clocks, and one for
every hour follows the time that passes.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from controlplane.lib.errors import InvalidInput, results_of
from controlplane.lib.frozen import frozen
from controlplane.lib.zones import clock_time, local_time, zone_validate

MAX_CRON = 100
_TEXT = re.compile(r"[0-9A-Za-z*/,#() -]+")
# Of each field: its name, and from which values H chooses. Each month has a day up to 28.
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 28), ("month", 1, 12), ("day of the week", 0, 6))
_H = re.compile(r"H(?:\(([0-9]{1,2})-([0-9]{1,2})\))?(?:/([0-9]{1,2}))?", re.IGNORECASE)
_HOURS = 24


@frozen
class Cron:
    """When something is due: `expression` is cron's five fields without H, `zone` the name of a time zone."""

    expression: str
    zone: str

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment` at which it is due, in UTC; None if there is none in 50 years."""
        zone = ZoneInfo(self.zone)
        local, again = local_time(moment, zone)
        found: datetime | None = None
        times, is_elapsed = self._times(local)
        if is_elapsed and again:
            # Clocks will show earlier times of this hour once more.
            times, _ = self._times(local - again)
        for local in times:
            shown = clock_time(local, zone)
            if found is not None and shown.first >= found:
                break
            if is_elapsed and not shown.exists:
                continue
            fitting = (shown.first, shown.second if is_elapsed else None)
            first = min((one for one in fitting if one is not None and one > moment), default=None)
            found = first if found is None or (first is not None and first < found) else found
            if found == shown.first:
                break
        return found

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """The next times after `moment`, at most so many."""
        return list(islice(self._following(moment), count))

    def in_words(self) -> str:
        """When it is due, without the time zone: ``At 03:17 on Monday through Friday``."""
        from cronsim import CronSim

        return str(CronSim(self.expression, datetime(2024, 1, 1)).explain())  # noqa: DTZ001 — clocks without a zone

    def _following(self, moment: datetime) -> Iterator[datetime]:
        following = self.after(moment)
        while following is not None:
            yield following
            following = self.after(following)

    def _times(self, after: datetime) -> tuple[Iterator[datetime], bool]:
        """The times of a clock that has no daylight saving, and whether the expression is for every hour of a day."""
        from cronsim import CronSim

        found = CronSim(self.expression, after)
        return found, len(found.hours) == _HOURS


def cron_validate(text: Any, *, zone: Any, seed: str, field: str = "cron", zone_field: str = "zone") -> Cron:
    """The cron expression `text` in the time zone. `seed` decides what H stands for. Raises InvalidInput."""
    found, zone = results_of(lambda: _expression(text, seed, field), lambda: zone_validate(zone, field=zone_field))
    return Cron(found, zone)


def _expression(text: Any, seed: str, field: str) -> str:
    """The five fields without H. Raises InvalidInput."""
    from cronsim import CronSimError

    if not isinstance(text, str) or len(text) > MAX_CRON or not _TEXT.fullmatch(text):
        raise InvalidInput.field(
            field, f"must be a cron expression of at most {MAX_CRON} characters, such as H 3 * * 1-5"
        )
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise InvalidInput.field(field, "must have five fields: minute, hour, day of the month, month, day of the week")
    parts = [_without_h(part, place, seed, field) for place, part in enumerate(fields)]
    # Whether a time comes does not depend on the zone: where an hour is left out, it comes the year after.
    cron = Cron(" ".join(parts), "UTC")
    try:
        following = cron.after(datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidInput.field(field, _meant(str(error), parts)) from None
    if following is None:
        raise InvalidInput.field(field, "must be a time that comes: no day fits in 50 years")
    return cron.expression


def _meant(message: str, parts: list[str]) -> str:
    """What the library says, in our words: it names the field that it cannot read."""
    from cronsim import CronSim, CronSimError

    if message == "Bad day-of-month":
        # It says the same of a day that can be read, but that none of the months has.
        with suppress(CronSimError):
            CronSim(" ".join([*parts[:3], "*", parts[4]]), datetime(2024, 1, 1))  # noqa: DTZ001 — clocks without a zone
            return "must be a time that comes: no month of these has such a day"
    if message.startswith("Bad "):
        message = f"cannot read the {message.removeprefix('Bad ').replace('-', ' ')}"
    return f"must be valid: {message}"


def _without_h(part: str, place: int, seed: str, field: str) -> str:
    """The field of an expression with numbers in place of each H."""
    return ",".join(_h_number(term, place, seed, field) if "h" in term.lower() else term for term in part.split(","))


def _h_number(term: str, place: int, seed: str, field: str) -> str:
    name, least, most = _FIELDS[place]
    found = _H.fullmatch(term)
    if not found:
        # THU is a day, and MARCH is not a month.
        return term
    if found[1] is not None:
        low, high = int(found[1]), int(found[2])
        if not least <= low <= high <= most:
            raise InvalidInput.field(field, f"must have H in the {name} from {least} to {most}, as H({least}-{most})")
        least, most = low, high
    number = int.from_bytes(hashlib.sha256(f"{seed}\n{place}".encode()).digest()[:8])
    if found[3] is None:
        return str(least + number % (most - least + 1))
    step = int(found[3])
    if not 1 <= step <= most - least + 1:
        raise InvalidInput.field(field, f"must have a step from 1 to {most - least + 1} after H/ in the {name}")
    return f"{least + number % step}-{most}/{step}"
