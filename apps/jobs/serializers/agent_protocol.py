"""What agents send about their attempts and what they are answered: the checks and the API document are made of it."""

from collections.abc import Mapping
from typing import Any

from apps.agents.serializers.heartbeats import ATTEMPT, JOB_ID, MAX_FAULT
from apps.agents.serializers.steps import EXIT_CODE, STEPS
from apps.agents.states import AgentStatus
from apps.jobs.services import AttemptResult
from controlplane.http.fields import (
    Choice,
    Field,
    Flag,
    ListOf,
    MapOf,
    Member,
    Object,
    Text,
    WholeNumber,
    nullable,
    optional,
)

# The error message of an attempt is cut to this many characters, so that a job's item stays small.
MAX_ERROR_MESSAGE = 1000

_COMMIT = optional(Text(64), null=True)
_SECONDS = nullable(WholeNumber(about="Seconds."))
_ENV = MapOf(Text())
_ATTEMPT_OF_JOB = {"job_id": JOB_ID, "attempt": ATTEMPT}

ASSIGNMENT = Object("Assignment", "An attempt that is offered until the agent starts it.", _ATTEMPT_OF_JOB)

COMMAND = Object(
    "Command",
    "What the agent shall do with an attempt that it runs: cancel it, or abandon it because another agent has it now.",
    {**_ATTEMPT_OF_JOB, "wish": Choice(("cancel", "abandon"))},
)

HEARTBEAT_ANSWER = Object(
    "HeartbeatAnswer",
    "The agent's status, the jobs it gets, those it shall stop, and when it shall send the next heartbeat.",
    {
        "status": Choice(tuple(status.value for status in AgentStatus)),
        "next_check_interval": WholeNumber(1, about="Seconds."),
        "config_version": WholeNumber(about="Differs from the agent's own when it shall fetch its configuration."),
        "jobs": ListOf(ASSIGNMENT),
        "wishes": ListOf(COMMAND),
    },
)

START = Object("Attempt", "The number of the attempt.", {"attempt": ATTEMPT})

STEP_DEFINITION = Object(
    "StepDefinition", "A step to run.", {"name": Text(), "run": Text(), "env": _ENV, "timeout": _SECONDS}
)

_WORK: dict[str, Field | Member] = {
    "steps": ListOf(STEP_DEFINITION),
    "env": _ENV,
    "timeout": _SECONDS,
    "container": optional(Text(about="The image whose containers run the steps."), null=True),
    "submodules": optional(Flag(about="Whether to fetch the repository's submodules."), default=False),
}

WORK = Object("Work", "What to run; `timeout` is that of the whole job.", _WORK)

DEFINITION = Object(
    "Definition",
    "The pipeline's definition, with the labels that its jobs ask for and how often a lost job is run again.",
    {**_WORK, "labels": ListOf(Text()), "retries": WholeNumber()},
)

START_ANSWER = Object(
    "StartAnswer",
    "All that the agent needs to run the attempt. Without `definition`, the repository's own file defines the job.",
    {
        **_ATTEMPT_OF_JOB,
        "run_id": Text(),
        "pipeline": Text(),
        "repository": Text(),
        "git_ref": Text(),
        "env": _ENV,
        "timeout": _SECONDS,
        "definition": nullable(DEFINITION),
        "definition_path": Text(),
        "log_limit": WholeNumber(about="The most bytes of output to send, before compression."),
    },
)

DEFINITION_REPORT = Object(
    "DefinitionReport",
    "The pipeline file of the commit that was checked out.",
    # How long it may be is the definition's own rule, whose breach fails the job as any other mistake in it.
    {"attempt": ATTEMPT, "commit": _COMMIT, "text": Text()},
)

LOG_ANSWER = Object("LogAnswer", "What the agent shall do with the attempt.", {"wish": nullable(Choice(("cancel",)))})

FINISH = Object(
    "Finish",
    "How the attempt ended.",
    {
        "attempt": ATTEMPT,
        "exit_code": optional(EXIT_CODE, null=True),
        "error_message": optional(Text(about=f"Cut to {MAX_ERROR_MESSAGE} characters."), null=True),
        "steps": optional(STEPS, default=[], null=True),
        "log_chunks": WholeNumber(0, 10_000_000),
        "commit": _COMMIT,
        "wants_next": optional(Flag(), default=True),
        "agent_fault": optional(
            Text(about=f"The failure of the machine that ended the attempt. Cut to {MAX_FAULT} characters."),
            null=True,
        ),
    },
)

FINISH_ANSWER = Object(
    "FinishAnswer",
    "The next attempt for the slot that is free now, if a job is queued.",
    {"next": nullable(ASSIGNMENT)},
)


def attempt_result(finish: Mapping[str, Any]) -> AttemptResult:
    """How an attempt ended, by a request that `FINISH` has checked."""
    error_message, agent_fault = finish["error_message"], finish["agent_fault"]
    return AttemptResult(
        exit_code=finish["exit_code"],
        error_message=error_message[:MAX_ERROR_MESSAGE] if error_message else None,
        steps=finish["steps"],
        log_chunks=finish["log_chunks"],
        commit=finish["commit"],
        agent_fault=agent_fault[:MAX_FAULT] if agent_fault else None,
    )
