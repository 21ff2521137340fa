"""The entry point of the program, as `python3 agent.pyz` and as `python3 -m agent`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the agent or, for the agent itself, the guard of one command. Returns the exit code."""
    if sys.argv[1:] == ["guard"]:
        from agent.guard import guard_main

        return guard_main()
    from agent.cli import agent_main

    return agent_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
