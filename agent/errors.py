"""The errors that end the agent, each with its exit code."""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """The agent cannot go on. The message goes to the user: it says what happened and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(AgentError):
    """A required option is missing or an option is invalid."""

    exit_code = 2


class RefusedByControlPlane(AgentError):
    """The control plane refuses this agent: a wrong token, a revoked key, a retired agent, an identity in use."""

    exit_code = 3


class StateDirectoryInUse(AgentError):
    """Another agent uses the same state directory."""

    exit_code = 4


class MachineUnfit(AgentError):
    """This machine lacks something that every job needs."""

    exit_code = 5
