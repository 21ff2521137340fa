"""Which of the control plane's addresses all threads of the agent use: the main one, or a fallback.

Only heartbeats and the enrolment look for an address that answers. Every other request waits until they have found one.
So a wrong fallback gets no log, no result and no configuration, and one heartbeat settles it for all threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

from agent.address import TIMEOUT_SECONDS, Address

logger = logging.getLogger(__name__)

# More would leave each too little of the time below.
MOST_ADDRESSES = 4
# A lease lasts 45 s, and heartbeats come every 10 s while jobs run. So when the address in use is lost, a heartbeat has
# 35 s to find another one: this for all addresses together, and the rest for the pauses between the tries.
_SEARCH_SECONDS = 30.0
# How often the main address is tried while another one is in use, at first and at most. Each time that it is lost
# again at once doubles the pause: it may answer heartbeats, and nothing that is larger.
MAIN_AGAIN_SECONDS = 60.0
_MAIN_AGAIN_LIMIT_SECONDS = 960.0
# How long such a try may take. The heartbeat to the address in use follows it.
_EXTRA_SECONDS = 5.0
# For how long an address of another control plane is left alone.
_EXCLUDED_SECONDS = 600.0


class Try(NamedTuple):
    """Where to send the next request.

    All of it may take `within` seconds; None: as long as is usual. `is_extra` says that the main address is tried while
    the one in use works, so its failure means nothing.
    """

    address: Address
    within: Optional[float] = None
    is_extra: bool = False


class Addresses:
    """The addresses of one control plane, in the order of preference. Many threads may share them."""

    def __init__(self, urls: Sequence[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError if one of the `urls` is no address, or if they are too many."""
        self._all = [Address(url) for url in dict.fromkeys(url.rstrip("/") for url in urls)]
        if not 0 < len(self._all) <= MOST_ADDRESSES:
            raise ValueError(f"{len(self._all)} addresses are given; give 1 to {MOST_ADDRESSES}")
        # Called when the address in use no longer answers: a heartbeat should look for another one.
        self.on_doubt: Callable[[], None] = lambda: None
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._main = self._used = self._all[0]
        # Whether the address in use has answered as this agent's control plane since the agent started.
        self._is_proven = False
        # Why the address in use may not be used now, if so, and the one to try instead.
        self._doubt: Optional[str] = None
        self._candidate = self._main
        self._main_tried_at = 0.0
        self._main_pause = MAIN_AGAIN_SECONDS
        self._main_back_at: Optional[float] = None
        # Until when addresses of other control planes are not tried.
        self._excluded: dict[Address, float] = {}

    @property
    def used(self) -> Address:
        """The address that all requests go to. While it does not answer, heartbeats look for another one."""
        return self._used

    @property
    def urls(self) -> list[str]:
        """All addresses, in the order of preference."""
        return [address.url for address in self._all]

    @property
    def hosts(self) -> list[str]:
        """The names or IP addresses of all addresses."""
        return [address.host for address in self._all]

    @property
    def are_many(self) -> bool:
        """Whether there is a fallback."""
        return len(self._all) > 1

    @property
    def are_in_doubt(self) -> bool:
        """Whether requests have to wait for a heartbeat that finds an address."""
        return self._doubt is not None

    def check_first(self) -> None:
        """Send nothing but heartbeats until one was answered: the addresses may be those of another control plane."""
        with self._lock:
            self._doubt, self._candidate, self._is_proven = "it was not yet asked", self._main, False

    def choose(self, *, searches: bool) -> Optional[Try]:
        """Where the next request goes. None if it has to wait.

        `searches` is for heartbeats and the enrolment. Only one thread may send such requests.
        """
        with self._lock:
            if not searches:
                return None if self._doubt is not None else Try(self._used)
            if self._doubt is None and self._is_main_due():
                self._main_tried_at = self._monotonic()
                return Try(self._main, _EXTRA_SECONDS, is_extra=True)
            within = min(TIMEOUT_SECONDS, _SEARCH_SECONDS / len(self._all)) if self.are_many else None
            return Try(self._used if self._doubt is None else self._candidate, within)

    def failed(self, address: Address, reason: str, *, searches: bool) -> None:
        """A request could not be delivered there, so the next one goes elsewhere."""
        if not self.are_many:
            return
        with self._lock:
            is_new = address is self._used and self._doubt is None
            if address is self._used and (is_new or searches):
                self._doubt = reason
            if is_new or (searches and address is self._candidate):
                self._candidate = self._after(address)
        if is_new and not searches:
            self.on_doubt()

    def answered(self, address: Address, *, proven: bool) -> None:
        """A heartbeat or an enrolment was answered there.

        `proven` says that it is the control plane that knows this agent. Then all requests go there from now on. An
        answer of any control plane, also one that it is busy, shows that the address in use works.
        """
        with self._lock:
            if address is self._used:
                self._is_proven = self._is_proven or proven
                self._candidate = address
                if self._is_proven:
                    self._doubt = None
            elif proven:
                self._use(address)
            elif address is self._candidate:
                self._candidate = self._after(address)

    def exclude(self, address: Address, reason: str) -> None:
        """Another control plane has answered there, so it is not tried again for some minutes."""
        with self._lock:
            self._excluded[address] = self._monotonic() + _EXCLUDED_SECONDS
            if address is self._candidate:
                self._candidate = self._after(address)
        logger.error(
            "%s does not know this agent (%s), so it seems to be the address of another control plane. The agent does "
            "not use it; check --url",
            address.url,
            reason,
        )

    def _use(self, address: Address) -> None:
        before, now = self._used, self._monotonic()
        if self._doubt is None:
            logger.info("%s answers again; the agent uses it instead of %s", address.url, before.url)
        else:
            logger.warning("%s does not answer (%s); the agent uses %s", before.url, self._doubt, address.url)
        if address is self._main:
            self._main_back_at = now
        elif before is self._main:
            is_soon = self._main_back_at is not None and now - self._main_back_at < self._main_pause
            self._main_pause = min(self._main_pause * 2, _MAIN_AGAIN_LIMIT_SECONDS) if is_soon else MAIN_AGAIN_SECONDS
            self._main_tried_at = now
        self._used = self._candidate = address
        self._is_proven, self._doubt = True, None

    def _is_main_due(self) -> bool:
        is_waiting = self._monotonic() - self._main_tried_at < self._main_pause
        return self._used is not self._main and not is_waiting and not self._is_excluded(self._main)

    def _after(self, address: Address) -> Address:
        """The address that is tried when this one fails."""
        place = self._all.index(address) + 1
        return next((one for one in self._all[place:] + self._all[:place] if not self._is_excluded(one)), self._used)

    def _is_excluded(self, address: Address) -> bool:
        return self._monotonic() < self._excluded.get(address, 0.0)
