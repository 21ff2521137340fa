"""The callback "settings" in zappa_settings.json: Zappa calls it for each of its commands, before it does anything.

Zappa loads this file alone and does not search its working directory for modules, so the path comes first.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

from controlplane.deployment.zappa_stage import command_prepare


def prepare(zappa: Any) -> None:
    """Make this command of Zappa (`zappa` is its command line) right for the stage, or stop it with SystemExit."""
    command_prepare(zappa)
