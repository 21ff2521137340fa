"""Watches a version that gets requests: the stage's alarms, and Lambda's own count of the version's errors."""

import time
from datetime import datetime, timedelta

from controlplane.infrastructure.alarms import RELEASE_ALARMS, alarm_name
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS, function_name
from controlplane.lib import clock

_POLL_SECONDS = 10.0


class Watch:
    """The alarms and the error count of a stage. Raises InfrastructureError when an alarm does not exist."""

    def __init__(self, stage: str, account: Account) -> None:
        """Note which alarms are active already: they do not count, because the new version may be the remedy."""
        self.names = [alarm_name(stage, title) for title in RELEASE_ALARMS]
        self._function = function_name(stage)
        self._cloudwatch = account.client("cloudwatch")
        states = self._states()
        missing = [name for name in self.names if name not in states]
        if missing:
            raise InfrastructureError(
                f"These alarms do not exist: {', '.join(missing)}. "
                f"First: manage.py infrastructure deploy --stage {stage}"
            )
        self.active = [name for name in self.names if states[name] == "ALARM"]

    def keep(self, version: str, seconds: float) -> None:
        """Watch for `seconds`. Raises InfrastructureError as soon as an alarm is active or `version` has an error."""
        since = clock.now()
        deadline = time.monotonic() + seconds
        while True:
            self._look(version, since)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL_SECONDS))

    def _look(self, version: str, since: datetime) -> None:
        active = [name for name, state in self._states().items() if state == "ALARM" and name not in self.active]
        if active:
            raise InfrastructureError(f"Active alarms: {', '.join(sorted(active))}.")
        errors = self._errors(version, since)
        if errors:
            raise InfrastructureError(f"Version {version} failed {errors} times; its log says why.")

    def _states(self) -> dict[str, str]:
        with aws_errors():
            found = self._cloudwatch.describe_alarms(AlarmNames=self.names, AlarmTypes=["MetricAlarm"])
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found["MetricAlarms"]}

    def _errors(self, version: str, since: datetime) -> int:
        """How often this version raised or ran out of time or memory. Lambda reports it after a minute."""
        dimensions = {
            "FunctionName": self._function,
            "Resource": f"{self._function}:{LIVE_ALIAS}",
            "ExecutedVersion": version,
        }
        with aws_errors():
            found = self._cloudwatch.get_metric_statistics(
                Namespace="AWS/Lambda",
                MetricName="Errors",
                Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
                StartTime=since.replace(second=0, microsecond=0),
                EndTime=clock.now() + timedelta(minutes=1),
                Period=60,
                Statistics=["Sum"],
            )
        return sum(int(point["Sum"]) for point in found["Datapoints"])
