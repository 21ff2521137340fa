"""The entry point of the program, as `python3 agent.pyz` and as `python3 -m agent`."""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import suppress

from agent.concealment import given_token, start_again_without_token
from agent.errors import UsageError

# The commands, and the functions that run them. Only what a command needs is imported.
_COMMANDS = {
    "run": "agent.cli:agent_main",
    "exec": "agent.exec_command:exec_main",
    "check": "agent.pipeline.check:check_main",
    "mask": "agent.mask_command:mask_main",
    "token": "agent.token_command:token_main",
    "upload": "agent.upload_command:upload_main",
}


def main() -> int:
    """Run the command that the first argument names, or else the agent. Returns the exit code."""
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and arguments[0] in _COMMANDS else "run"
    token = given_token(arguments) if name == "run" else None
    if token:
        # The program below tries it again after an error, and reports that.
        with suppress(OSError, UsageError):
            start_again_without_token(arguments, token)
    # Most of the start is these imports. The process that is replaced above does without them. None of what they make
    # is garbage, and to look for it would take a seventh of the start.
    module, _, function = _COMMANDS[name].partition(":")
    gc.disable()
    command = getattr(importlib.import_module(module), function)
    gc.enable()
    return int(command(arguments))


if __name__ == "__main__":
    sys.exit(main())
