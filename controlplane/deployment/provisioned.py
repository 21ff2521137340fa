"""Processes that Lambda keeps ready: the setting PROVISIONED_CONCURRENCY.

They belong to a version. Lambda refuses them for an alias that shares requests between two versions, as `live` does
while a new version is watched.
"""

import time
from typing import Any

from botocore.exceptions import ClientError

from controlplane.deployment.live import Live
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import function_name

_POLL_SECONDS = 5.0
# Lambda starts hundreds of processes a minute.
_LONGEST_SECONDS = 600.0


class Provisioned:
    """The ready processes of a stage's versions. Raises InfrastructureError for everything that AWS refuses."""

    def __init__(self, stage: str, account: Account, wanted: int | None = None) -> None:
        """`wanted` processes for each version that gets requests; None: as many as some version has now."""
        self._live = Live(stage, account)
        self._function = function_name(stage)
        self._lambda = account.client("lambda")
        self._now = self._versions()
        self._wanted = max(self._now.values(), default=0) if wanted is None else wanted

    def prepare(self, version: str) -> None:
        """Make the processes of a version that gets no requests yet, and wait until they are ready."""
        if not self._wanted:
            return
        self._make(version)
        deadline = time.monotonic() + _LONGEST_SECONDS
        while (found := self._state(version))["Status"] != "READY":
            if found["Status"] == "FAILED" or time.monotonic() > deadline:
                raise InfrastructureError(
                    f"Lambda does not keep {self._wanted} processes of version {version} ready: "
                    f"{found.get('StatusReason', found['Status'])} Lower PROVISIONED_CONCURRENCY, then deploy again."
                )
            time.sleep(_POLL_SECONDS)

    def follow(self) -> None:
        """Give the versions that get requests their processes, without waiting, and no other version any."""
        state = self._live.state()
        served = {state.version, state.candidate} - {None} if self._wanted else set()
        for version in served:
            self._make(str(version))
        for version in self._now.keys() - served:
            with aws_errors():
                self._lambda.delete_provisioned_concurrency_config(FunctionName=self._function, Qualifier=version)
            del self._now[version]

    def _make(self, version: str) -> None:
        if self._now.get(version) == self._wanted:
            return
        with aws_errors():
            self._lambda.put_provisioned_concurrency_config(
                FunctionName=self._function, Qualifier=version, ProvisionedConcurrentExecutions=self._wanted
            )
        self._now[version] = self._wanted

    def _state(self, version: str) -> dict[str, Any]:
        with aws_errors():
            found: dict[str, Any] = self._lambda.get_provisioned_concurrency_config(
                FunctionName=self._function, Qualifier=version
            )
        return found

    def _versions(self) -> dict[str, int]:
        """How many processes each version should have that is or was live, of those that should have any."""
        state = self._live.state()
        found = {}
        for version in {state.version, state.candidate, *state.before} - {None}:
            try:
                found[str(version)] = self._state(str(version))["RequestedProvisionedConcurrentExecutions"]
            except InfrastructureError as error:
                cause = error.__cause__
                code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
                if code != "ProvisionedConcurrencyConfigNotFoundException":
                    raise
        return found
