"""Time that passes while agents poll, as in normal running: an agent's silence counts then."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from apps.jobs.selectors.queue import queue_registry
from apps.jobs.services.leases import leases_look
from controlplane.lib import clock

# How often a lone idle agent polls.
_EVERY = 14


@contextmanager
def polled(seconds: float) -> Iterator[None]:
    """Inside the block, the clock is shifted by so many seconds, during which some agent polled all the time.

    So a lease of 45 seconds is still there after ``polled(50)``, and the next sweep or poll expires it.
    """
    with ExitStack() as shifts:
        leases_look(row=queue_registry().looks)
        while seconds > _EVERY:
            shifts.enter_context(clock.shifted(timedelta(seconds=_EVERY)))
            seconds -= _EVERY
            leases_look(row=queue_registry().looks)
        shifts.enter_context(clock.shifted(timedelta(seconds=seconds)))
        yield
