"""What agents report of an attempt's steps, in heartbeats and at its end."""

from apps.agents.states import StepState
from controlplane.http.fields import Choice, ListOf, Object, Text, Time, WholeNumber, optional
from controlplane.lib.steps import MAX_STEP_NAME, MAX_STEPS

# Negative for a signal; Windows has codes of 32 bits.
EXIT_CODE = WholeNumber(-(2**31), 2**32)

STEP_REPORT = Object(
    "StepReport",
    "The state of a step.",
    {
        "name": Text(MAX_STEP_NAME, empty=False),
        "state": Choice(tuple(state.value for state in StepState)),
        "exit_code": optional(EXIT_CODE, null=True),
        "started_at": optional(Time(), null=True),
        "completed_at": optional(Time(), null=True),
    },
)

STEPS = ListOf(STEP_REPORT, MAX_STEPS)
