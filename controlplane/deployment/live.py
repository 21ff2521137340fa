"""The alias `live`: the version of a stage's function that serves the API and the schedules.

Every change is one UpdateAlias call, on the condition that the alias has not changed since the change was planned. The
description of the alias has the versions that were live before, so that a rollback needs no data but AWS's.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS, function_name

# A rollback can go back so many versions, one after the other.
_REMEMBERED = 5
# So many versions stay at Lambda, besides those that a rollback may need. All versions share the account's 75 GB.
_KEPT = 10


class MovedByOthers(InfrastructureError):
    """The alias has changed since the change was planned. It was not changed."""


@dataclass(frozen=True)
class State:
    """The state of the alias: `version` gets all requests but the `percent` that `candidate` gets.

    `before` are the versions that were live, the last one first; `revision` is AWS's identifier of this state.
    """

    version: str
    candidate: str | None
    percent: int
    before: tuple[str, ...]
    revision: str

    def share(self, version: str) -> int:
        """The percentage of requests that `version` gets."""
        if version == self.candidate:
            return self.percent
        return 100 - self.percent if version == self.version else 0

    def __str__(self) -> str:
        if self.candidate is None:
            return f"All requests go to version {self.version}."
        return f"{self.percent} % of all requests go to version {self.candidate}, the rest to {self.version}."


@dataclass(frozen=True)
class Version:
    """A published version. `published` is AWS's text for the time; `description` names the code."""

    number: str
    published: str
    description: str


class Live:
    """The alias of one stage's function. Raises InfrastructureError for everything that AWS refuses."""

    def __init__(self, stage: str, account: Account) -> None:
        self.stage = stage
        self.function = function_name(stage)
        self._lambda = account.client("lambda")

    # --- what there is --------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the stage has a live version."""
        with aws_errors():
            try:
                self._lambda.get_alias(FunctionName=self.function, Name=LIVE_ALIAS)
            except self._lambda.exceptions.ResourceNotFoundException:
                return False
        return True

    def state(self) -> State:
        """The current state of the alias. Raises InfrastructureError when there is none."""
        with aws_errors():
            try:
                return _state(self._lambda.get_alias(FunctionName=self.function, Name=LIVE_ALIAS))
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
        raise InfrastructureError(
            f"{self.function} has no alias {LIVE_ALIAS}: it is not deployed, or its first deployment failed halfway. "
            f"Run `zappa undeploy {self.stage}` to remove what is left, then deploy again. Data is kept."
        )

    def versions(self) -> list[Version]:
        """All published versions, newest first."""
        with aws_errors():
            pages = self._lambda.get_paginator("list_versions_by_function").paginate(FunctionName=self.function)
            found = [
                Version(entry["Version"], entry["LastModified"], entry.get("Description", ""))
                for page in pages
                for entry in page["Versions"]
                if entry["Version"] != "$LATEST"
            ]
        return sorted(found, key=lambda version: int(version.number), reverse=True)

    # --- changing it ----------------------------------------------------------------------------------------------

    def publish(self, description: str) -> str:
        """Publish the uploaded code and settings as a version. Without a change, return the newest version."""
        with aws_errors():
            self._lambda.get_waiter("function_updated_v2").wait(FunctionName=self.function)
            version: str = self._lambda.publish_version(FunctionName=self.function, Description=description)["Version"]
            self._lambda.get_waiter("published_version_active").wait(FunctionName=self.function, Qualifier=version)
        return version

    def lend(self, state: State, version: str, percent: int) -> State:
        """Send `percent` of the requests to `version`, and the rest to the live version."""
        return self._update(state, State(state.version, version, percent, state.before, ""))

    def move(self, state: State, version: str) -> State:
        """Send all requests to `version`, and record the version that was live."""
        before = [state.version, *(number for number in state.before if number != version)]
        return self._update(state, State(version, None, 0, tuple(before[:_REMEMBERED]), ""))

    def restore(self, state: State, earlier: State) -> State:
        """Set the alias to its earlier state."""
        return self._update(state, earlier)

    def go_back(self) -> State:
        """End a partial release, or, without one, send all requests to the version that was live before.

        Raises InfrastructureError when no earlier version is known.
        """
        state = self.state()
        if state.candidate is not None:
            return self._update(state, State(state.version, None, 0, state.before, ""))
        if not state.before:
            raise InfrastructureError(f"No version is known that was live before {state.version}.")
        return self._update(state, State(state.before[0], None, 0, state.before[1:], ""))

    def prune(self) -> list[str]:
        """Delete old versions and return their numbers. Keep the live version and those that a rollback may need."""
        state = self.state()
        needed = {state.version, state.candidate, *state.before}
        old = [version.number for version in self.versions()[_KEPT:] if version.number not in needed]
        with aws_errors():
            for number in old:
                self._lambda.delete_function(FunctionName=self.function, Qualifier=number)
        return old

    def _update(self, state: State, wanted: State) -> State:
        weights = {wanted.candidate: wanted.percent / 100} if wanted.candidate is not None else {}
        with aws_errors(), _condition_checked(self.function):
            return _state(
                self._lambda.update_alias(
                    FunctionName=self.function,
                    Name=LIVE_ALIAS,
                    FunctionVersion=wanted.version,
                    RoutingConfig={"AdditionalVersionWeights": weights},
                    Description=_history_text(wanted.before),
                    RevisionId=state.revision,
                )
            )


@contextmanager
def _condition_checked(function: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "PreconditionFailedException":
            raise
        raise MovedByOthers(
            f"{LIVE_ALIAS} of {function} was changed by another process in the meantime, and is left as it is. "
            "Run `manage.py release list` to see its current state."
        ) from error


def _state(alias: dict[str, Any]) -> State:
    weights: dict[str, float] = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    candidate, weight = next(iter(weights.items()), (None, 0.0))
    return State(
        version=alias["FunctionVersion"],
        candidate=candidate,
        percent=round(weight * 100),
        before=tuple(re.findall(r"\d+", alias.get("Description", ""))),
        revision=alias["RevisionId"],
    )


def _history_text(before: tuple[str, ...]) -> str:
    return f"Live before: {', '.join(before)}" if before else "The first"
