#!/usr/bin/env python
"""Django's command line for the control plane."""

import os
import sys

from controlplane.lib.command_names import command_instead


def stage_file_use(arguments: list[str]) -> None:
    """Read the settings of the stage that the command is for, before this process's own settings are read."""
    try:
        from controlplane.deployment.stage_file import stage_file_read, stage_named
        from controlplane.infrastructure.errors import InfrastructureError
    except ImportError:
        # Without what deploys. The command itself says what is missing.
        return
    try:
        stage = stage_named(arguments)
        if stage:
            stage_file_read(stage)
    except InfrastructureError as error:
        sys.exit(f"CommandError: {error}")


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    instead = command_instead(sys.argv[1]) if len(sys.argv) > 1 else None
    if instead:
        sys.exit(f"CommandError: {instead}")
    if any(argument.startswith("--stage") for argument in sys.argv):
        stage_file_use(sys.argv)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
