"""A sealed trail for tests, and checks of it."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from unittest.mock import patch

from django.core.cache import cache

from apps.audit.models import AuditRecord
from apps.audit.seals.checking import Verification
from apps.audit.seals.copies import copy_storage
from apps.audit.selectors.seals import trusted_keys
from apps.audit.selectors.verification import trail_verify
from apps.audit.services import sealing
from apps.audit.services.sealing import audit_seal, audit_seals_copy
from controlplane.lib import clock
from tests.audit.trail import event, write

# Until the minute of an event is sealed.
SOON = timedelta(minutes=4)


def seal_now(after: timedelta = SOON) -> int:
    """Seal what has been written, as a sweep some minutes later. Returns the number of events."""
    with clock.shifted(after):
        sealed = audit_seal(seconds=60)
        audit_seals_copy(seconds=60)
    return sealed


def sealed_trail(sizes: Sequence[int] = (3, 1, 4)) -> list[AuditRecord]:
    """A trail with a seal for each of `sizes`, of so many events: one each five minutes, up to five minutes ago."""
    written = []
    for number, size in enumerate(sizes):
        # A trail is so short that it begins on this day or the one before.
        first = patch.object(sealing, "_EMPTY_DAYS", min(1, sealing._EMPTY_DAYS))
        with first, clock.shifted(timedelta(minutes=5 * (number - len(sizes)))):
            written += write(event(f"job:{number}-{other}", detail={"n": other}) for other in range(size))
            assert seal_now() == size
    return written


def late_event(target: str = "job:late") -> AuditRecord:
    """An event of six minutes ago, not written."""
    with clock.shifted(timedelta(minutes=-6)):
        return event(target)


def copies_clear() -> None:
    """Delete the copies of all seals, and what the process knows of them."""
    cache.clear()
    rmtree(Path(copy_storage().path("audit-seals")), ignore_errors=True)


def verified(**options: object) -> Verification:
    """The result of a check with the keys of this machine."""
    with clock.shifted(SOON):
        return trail_verify(trusted=trusted_keys(), **options)  # type: ignore[arg-type]


def good(**options: object) -> Verification:
    """The result of a check that must find nothing."""
    result = verified(**options)
    assert result.findings == []
    return result
