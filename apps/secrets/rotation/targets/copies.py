"""Targets whose copy can be read back."""

from abc import abstractmethod
from datetime import timedelta

from controlplane.lib.rotation import Notes, NotYet, Step, Target

# Copies of most systems are read from several machines, which do not all change at the same moment.
_LOOK_AGAIN = timedelta(seconds=5)


class ReadableCopy(Target):
    """A target whose copy can be read. Each write reads first, so that a repeated step changes nothing.

    Reading and writing raise StepRefused and Unavailable.
    """

    @abstractmethod
    def read(self, step: Step) -> str | None:
        """The copy, or None if the place for it exists without one."""

    @abstractmethod
    def write(self, step: Step, value: str) -> None:
        """Replace the copy."""

    def prepare(self, step: Step) -> Notes | None:
        self.read(step)
        return None

    def apply(self, step: Step) -> Notes | None:
        self._make(step, step.new)
        return None

    def verify(self, step: Step) -> Notes | None:
        if self.read(step) != step.new:
            raise NotYet(f"{self.place(step.config)} does not show the new value.", after=_LOOK_AGAIN)
        return None

    def revert(self, step: Step) -> Notes | None:
        self._make(step, step.old)
        if self.read(step) != step.old:
            raise NotYet(f"{self.place(step.config)} does not show the old value.", after=_LOOK_AGAIN)
        return None

    def _make(self, step: Step, value: str) -> None:
        if self.read(step) != value:
            self.write(step, value)
