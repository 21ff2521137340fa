"""What ends the agent, and with which exit code."""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """The agent cannot go on; the message says why, in words for the person who started it."""

    exit_code: ClassVar[int] = 1


class UsageError(AgentError):
    """Something needed was not given."""

    exit_code = 2


class RefusedByControlPlane(AgentError):
    """The control plane does not want this agent: wrong token, key revoked, agent retired."""

    exit_code = 3


class StateDirectoryInUse(AgentError):
    """Another agent runs on the same state directory."""

    exit_code = 4


class MachineUnfit(AgentError):
    """This machine lacks something that every job needs."""

    exit_code = 5
