"""Labels: a job requires them and an agent offers them. Pipelines, agents and jobs share these rules."""

import re
from collections.abc import Collection, Sequence

from controlplane.lib.errors import InvalidInput

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,62}")
# Continues "must be" in a message.
LABEL_FORM = "1 to 63 letters, digits and . _ : / = -, beginning with a letter or digit"
MAX_LABELS = 20
# Agents that can run containers have this label.
CONTAINER_LABEL = "container"
# A job with the label deploy:production runs only on agents that have the deployment target production.
TARGET_PREFIX = "deploy:"
_LONGEST_TARGET = 63 - len(TARGET_PREFIX)


def names_check(field: str, names: Sequence[str], *, known: Collection[str] = ()) -> list[str]:
    """The labels or deployment targets `names`, each once. Those in `known` may break the rule for their form.

    Raises InvalidInput for `field`.
    """
    kept = list(dict.fromkeys(names))
    if len(kept) > MAX_LABELS:
        raise InvalidInput.field(field, f"must have at most {MAX_LABELS} entries")
    for name in kept:
        if name not in known and not LABEL.fullmatch(name):
            raise InvalidInput.field(field, f"“{name[:63]}” must be {LABEL_FORM}")
    return kept


def agent_labels_check(names: Sequence[str], *, known: Collection[str] = ()) -> list[str]:
    """The labels of agents, as `names_check` checks them. None of them may look like a deployment target.

    Raises InvalidInput for the field "labels".
    """
    for name in names:
        if name.startswith(TARGET_PREFIX) and name not in known:
            raise InvalidInput.field("labels", f"“{name[:63]}” must be a deployment target instead of a label")
    return names_check("labels", names, known=known)


def targets_check(names: Sequence[str], *, known: Collection[str] = ()) -> list[str]:
    """The deployment targets of agents. Raises InvalidInput for the field "deployment_targets"."""
    for name in names:
        if len(name) > _LONGEST_TARGET and name not in known:
            raise InvalidInput.field(
                "deployment_targets", f"“{name[:63]}” must have at most {_LONGEST_TARGET} characters"
            )
    return names_check("deployment_targets", names, known=known)


def target_labels(environment: str | None) -> tuple[str, ...]:
    """The labels that a job requires because of its environment: its agent must have it as a deployment target."""
    return (f"{TARGET_PREFIX}{environment}",) if environment else ()


def labels_offered(labels: Collection[str], deployment_targets: Collection[str]) -> tuple[str, ...]:
    """What an agent offers to jobs: its labels, and a label for each of its deployment targets.

    A label alone lets no agent deploy: machines choose their labels themselves, if their token has none.
    """
    own = (label for label in labels if not label.startswith(TARGET_PREFIX))
    return (*own, *(f"{TARGET_PREFIX}{target}" for target in deployment_targets))


def targets_required(labels: Collection[str]) -> list[str]:
    """The deployment targets that a job with these labels deploys to."""
    return sorted(label.removeprefix(TARGET_PREFIX) for label in labels if label.startswith(TARGET_PREFIX))
