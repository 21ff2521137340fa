"""The secrets of one attempt: they come encrypted to a key that the agent makes for the attempt alone.

Their values live in the memory of the agent, of the guard until it has started a step, and of the steps.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional, Union

from agent import x25519
from agent.hpke import CannotOpen, message_open
from agent.job_ends import JobFailed

_PURPOSE = b"hybrid-ci secrets"
# It becomes a variable and the name of a file.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True)
class SecretUse:
    """A secret that the steps get: as the variable of its name, or with `file` there the path of a file."""

    name: str
    file: bool = False

    @classmethod
    def from_answer(cls, answer: Union[str, dict[str, Any]]) -> SecretUse:
        """A use as an answer or a pipeline file's job has it: a name, or a mapping. Raises ValueError and its like."""
        return cls(answer) if isinstance(answer, str) else cls(str(answer["name"]), bool(answer.get("file")))


@dataclass(frozen=True)
class JobSecrets:
    """The values that steps get as variables, and those that they get as files, by name."""

    variables: dict[str, str] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.variables or self.files)

    @property
    def values(self) -> list[str]:
        """All values, which no log may show."""
        return [*self.variables.values(), *self.files.values()]

    @classmethod
    def of(cls, uses: list[SecretUse], values: Mapping[str, str]) -> JobSecrets:
        """The values that the uses name, of which none may be missing. Raises JobFailed."""
        for use in uses:
            if not _NAME.fullmatch(use.name):
                raise JobFailed(
                    f"The name of a secret of this job is not valid: {use.name!r}. Correct the pipeline file."
                )
            if "\0" in values[use.name] and not use.file:
                raise JobFailed(f"The secret {use.name} has a null character: take it as a file (file: true).")
        return cls(
            variables={use.name: values[use.name] for use in uses if not use.file},
            files={use.name: values[use.name] for use in uses if use.file},
        )


class AttemptKey:
    """The key pair of one attempt. The control plane encrypts the attempt's secrets to its public part."""

    @cached_property
    def _private(self) -> bytes:
        return x25519.private_key()

    @cached_property
    def public(self) -> str:
        """The public key in base64, as requests have it."""
        return base64.b64encode(x25519.public_key(self._private)).decode()

    def open(self, encrypted: str, *, agent_id: str, job_id: str, attempt: int) -> dict[str, str]:
        """The values by name, from the member `sealed_secrets` of an answer. Raises CannotOpen."""
        document = self.document(encrypted, purpose=_PURPOSE, agent_id=agent_id, job_id=job_id, attempt=attempt)
        try:
            return {str(one["name"]): str(one["value"]) for one in document["secrets"]}
        except (KeyError, TypeError):
            raise CannotOpen("the message has another form") from None

    def document(self, encrypted: str, *, purpose: bytes, agent_id: str, job_id: str, attempt: int) -> dict[str, Any]:
        """What the control plane has encrypted to the key for a purpose. Raises CannotOpen."""
        info = b"\0".join([purpose, agent_id.encode(), job_id.encode(), b"%d" % attempt])
        try:
            document = json.loads(message_open(self._private, base64.b64decode(encrypted, validate=True), info=info))
        except ValueError:
            # Errors of the parser would have a part of the text.
            raise CannotOpen("the message has another form") from None
        if not isinstance(document, dict):
            raise CannotOpen("the message has another form")
        return document


def secrets_open(
    uses: list[SecretUse], encrypted: Optional[str], key: AttemptKey, *, agent_id: str, job: tuple[str, int]
) -> JobSecrets:
    """The secrets that the job names. `job` has its id and the attempt. Raises JobFailed."""
    if not uses:
        return JobSecrets()
    names = ", ".join(use.name for use in uses)
    if encrypted is None:
        raise JobFailed(
            f"The job names secrets ({names}), but the control plane has sent none. Its version may not have secrets: "
            "update it, or remove them from the job."
        )
    try:
        values = key.open(encrypted, agent_id=agent_id, job_id=job[0], attempt=job[1])
    except CannotOpen as error:
        raise JobFailed(
            f"The agent cannot open the secrets of this job ({names}): {error}. Run the job again. If it fails again, "
            "something between the control plane and the agent changes what they send."
        ) from None
    missing = [use.name for use in uses if use.name not in values]
    if missing:
        raise JobFailed(f"The control plane has sent no value for {', '.join(missing)}. Run the job again.")
    return JobSecrets.of(uses, values)
