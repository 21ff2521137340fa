"""Signals that programs obey, whatever the test run itself does with them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_obeyed() -> Iterator[None]:
    """A program that starts inside the block obeys SIGINT.

    Programs inherit that a signal is ignored, and a shell lets those that it starts in the background ignore this one.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
