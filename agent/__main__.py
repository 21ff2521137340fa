"""The entry point of the program, as `python3 agent.pyz` and as `python3 -m agent`."""

from __future__ import annotations

import sys

from agent.cli import agent_main


def main() -> int:
    """Run the agent. Returns the exit code."""
    return agent_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
