"""A rotator and a target of a team: those that docs/rotation.md shows, and a target that fails."""

import re
from pathlib import Path
from typing import ClassVar

from controlplane.lib.rotation import Notes, Step, Target

_MANUAL = Path(__file__).parents[2] / "docs" / "rotation.md"
(_SHOWN,) = re.findall(r"^```python\n(.*?)^```", _MANUAL.read_text(), re.DOTALL | re.MULTILINE)
exec(compile(_SHOWN, str(_MANUAL), "exec"))


class Shelf(Target):
    """A place that shows what it got to everyone who looks, also in an error."""

    title = "shelf"
    holds: ClassVar[list[str]] = []

    def apply(self, step: Step) -> Notes | None:
        self.holds.append(step.new)
        return None

    def verify(self, step: Step) -> Notes | None:
        raise RuntimeError(f"cannot see {step.new}")

    def revert(self, step: Step) -> Notes | None:
        self.holds.clear()
        return None
