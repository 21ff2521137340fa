"""Where the program begins, as `python3 agent.pyz` and as `python3 -m agent`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the agent or, for the agent's own use, one command under guard. Returns the exit code."""
    if sys.argv[1:] == ["guard"]:
        from agent.guard import guard_main

        return guard_main()
    from agent.cli import agent_main

    return agent_main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
