"""What agents send about their attempts and what they are answered: the checks and the API document are made of it."""

from collections.abc import Mapping
from typing import Any

from apps.agents.serializers.heartbeats import ATTEMPT, JOB_ID, MAX_FAULT
from apps.agents.serializers.steps import EXIT_CODE, STEPS
from apps.agents.states import AgentStatus
from apps.jobs.services import AttemptResult, JobPlace
from apps.pipelines.definitions import ENV_NAME, MAX_OUTPUTS
from controlplane.http.fields import (
    Choice,
    Field,
    Flag,
    ListOf,
    MapOf,
    Member,
    Number,
    Object,
    Text,
    WholeNumber,
    nullable,
    optional,
)
from controlplane.lib.errors import InvalidInput

# The error message of an attempt is cut to this many characters, so that a job's item stays small.
MAX_ERROR_MESSAGE = 1000

# What a job may hand on to others, in bytes: one value, and all names and values.
MAX_OUTPUT = 4096
MAX_OUTPUTS_BYTES = 16 * 1024
# How many changed paths a report may have.
MAX_CHANGED_PATHS = 3000

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

_SECRETS_KEY = optional(
    Text(64, about="An X25519 public key (32 bytes in base64) that the agent made for this attempt, for its secrets."),
    null=True,
)

_SECRETS = optional(
    Text(
        about="The secrets of the attempt, for the owner of `secrets_key`: in base64, encrypted by HPKE (RFC 9180) in "
        "base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20Poly1305. What is encrypted is JSON: "
        '{"secrets": [{"name", "value"}]}. `info` is "hybrid-ci secrets", the agent\'s id, the job\'s id and the '
        "attempt, with a NUL between them. Null if the job names no secrets."
    ),
    null=True,
)

START = Object("Attempt", "The number of the attempt.", {"attempt": ATTEMPT, "secrets_key": _SECRETS_KEY})

STEP_DEFINITION = Object(
    "StepDefinition", "A step to run.", {"name": Text(), "run": Text(), "env": _ENV, "timeout": _SECONDS}
)

ARTIFACT_PATHS = Object(
    "ArtifactPaths",
    "The files that the job leaves behind, as patterns, and for how many seconds they are kept.",
    {"paths": ListOf(Text()), "expire_in": optional(WholeNumber(), null=True)},
)

CACHE_PATHS = Object(
    "CachePaths",
    "Paths that later jobs get back under the key, or else under the longest of the restore keys that matches.",
    {"key": Text(), "paths": ListOf(Text()), "restore_keys": ListOf(Text())},
)

REPORT_PATHS = Object(
    "ReportPaths",
    "Patterns of the paths of JUnit files, and the path of a Cobertura file.",
    {"junit": optional(ListOf(Text()), default=[]), "coverage": optional(Text(), null=True)},
)

SECRET_USE = Object(
    "SecretUse",
    "A secret that the steps get as the variable of its name or, with `file`, as a file whose path the variable has.",
    {"name": Text(), "file": optional(Flag(), default=False)},
)

_WORK: dict[str, Field | Member] = {
    "steps": ListOf(STEP_DEFINITION),
    "env": _ENV,
    "timeout": _SECONDS,
    "container": optional(Text(about="The image whose containers run the steps."), null=True),
    "submodules": optional(Flag(about="Whether to fetch the repository's submodules."), default=False),
    "artifacts": optional(ARTIFACT_PATHS, null=True),
    "take": optional(ListOf(Text(), about="The jobs of the run whose artifacts the job gets, by name."), default=[]),
    "caches": optional(ListOf(CACHE_PATHS), default=[]),
    "reports": optional(REPORT_PATHS, null=True),
    "outputs": optional(ListOf(Text(), about="What the job may write to $HYBRID_CI_OUTPUT."), default=[]),
    "secrets": optional(ListOf(SECRET_USE), default=[]),
    "environment": optional(Text(about="The environment that the job deploys to."), null=True),
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
        "name": nullable(Text(about="The job's place in its run, which the report of its end repeats.")),
        "group": nullable(Text(about="The concurrency group of which the job has a slot. The report repeats it, too.")),
        "pipeline": Text(),
        "repository": Text(),
        "git_ref": Text(about="What to check out: the commit of the run, or the ref until that is known."),
        "ref": Text(about="The ref that the run was started for."),
        "env": _ENV,
        "timeout": _SECONDS,
        "definition": nullable(DEFINITION),
        "definition_path": nullable(Text(about="Null: the definition is on the server; report the commit without it.")),
        "log_limit": WholeNumber(about="The most bytes of output to send, before compression."),
        "deployment_targets": ListOf(Text(), about="What the job deploys to: its labels that begin with deploy:"),
        "sealed_secrets": _SECRETS,
        "sealed_fetch": optional(
            Text(
                about="With what to fetch the repository, encrypted to `secrets_key`. Left out: what the machine has."
            ),
            null=True,
        ),
    },
)

DEFINITION_REPORT = Object(
    "DefinitionReport",
    "The pipeline file of the commit that was checked out.",
    # How long it may be is the definition's own rule, whose breach fails the job as any other mistake in it.
    {
        "attempt": ATTEMPT,
        "commit": _COMMIT,
        "text": optional(Text(about="Null where the definition is on the server."), null=True),
        "trees": optional(
            MapOf(Text(64), about="The git tree or blob of each path that was asked for; empty if there is none."),
            null=True,
        ),
        "changed_paths": optional(
            ListOf(Text(4096), MAX_CHANGED_PATHS, about="Null if they are not known, or if there are more."), null=True
        ),
        "answers": optional(Flag(about="Whether this answers `wants`."), default=False),
        "secrets_key": _SECRETS_KEY,
    },
)

WANTS = Object(
    "Wants",
    "What the pipeline file asks about the repository: report again with it.",
    {
        "trees": optional(ListOf(Text()), default=[]),
        "changes": optional(Flag(), default=False),
        "since": optional(Text(about="Which paths differ from this commit."), null=True),
        "branch": optional(
            Text(about="Without `since`: which differ from where this commit left the branch."), null=True
        ),
    },
)

DEFINITION_ANSWER = Object(
    "DefinitionAnswer",
    "What to run, or what the control plane has to know before it can say that.",
    {
        **{name: one if isinstance(one, Member) else optional(one) for name, one in _WORK.items()},
        "wants": optional(WANTS),
        "sealed_secrets": _SECRETS,
    },
)

UPLOAD = Object("Upload", "A pipeline file whose jobs come to the run.", {"text": Text()})

UPLOAD_ANSWER = Object("UploadAnswer", "The names of the new jobs in the run.", {"jobs": ListOf(Text())})

# The header Log-Times of a log chunk: how many milliseconds ago its first byte was printed, and then, for bytes that
# were printed later, how many bytes and milliseconds they are after the place before.
LOG_TIMES = r"[0-9]{1,9}(?: [0-9]{1,6}:[0-9]{1,9}){0,100}"

LOG_ANSWER = Object("LogAnswer", "What the agent shall do with the attempt.", {"wish": nullable(Choice(("cancel",)))})

# The headers of a report.
REPORT_FILE = r"[!-~]{1,2000}"
REPORT_COMMIT = r"[0-9a-f]{1,64}"

REPORT_ANSWER = Object(
    "ReportAnswer",
    "What the report says: how many tests ran and failed, or the share of lines that they ran, from 0 to 1.",
    {
        "total": nullable(WholeNumber()),
        "failed": nullable(WholeNumber()),
        "skipped": nullable(WholeNumber()),
        "coverage": nullable(Number(0, 1)),
    },
)

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
        "run_id": optional(Text(64), null=True),
        "name": optional(Text(200), null=True),
        "group": optional(Text(400), null=True),
        "outputs": optional(MapOf(Text(MAX_OUTPUT), about="What the job wrote to $HYBRID_CI_OUTPUT."), null=True),
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
        outputs=outputs_checked(finish["outputs"]) or None,
        place=JobPlace(finish["run_id"], finish["name"], finish["group"])
        if finish["run_id"] and finish["name"]
        else None,
    )


def outputs_checked(outputs: Mapping[str, str] | None) -> dict[str, str]:
    """The outputs of a job. Raises InvalidInput if they are too many or too long, or have no valid names."""
    found = dict(outputs or {})
    if len(found) > MAX_OUTPUTS:
        raise InvalidInput.field("outputs", f"must be at most {MAX_OUTPUTS} names")
    for name in found:
        if not ENV_NAME.fullmatch(name):
            raise InvalidInput.field("outputs", "must have names of letters, digits and _, not beginning with a digit")
    if sum(len(name.encode()) + len(value.encode()) for name, value in found.items()) > MAX_OUTPUTS_BYTES:
        raise InvalidInput.field("outputs", f"must have at most {MAX_OUTPUTS_BYTES:,} bytes in all")
    return found
