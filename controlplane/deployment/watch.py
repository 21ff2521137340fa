"""Looking after a version that gets traffic: the stage's alarms, and what Lambda counts of the version itself."""

import time
from datetime import datetime, timedelta

from controlplane.infrastructure.alarms import RELEASE_ALARMS, alarm_name
from controlplane.infrastructure.clients import Account, aws_errors
from controlplane.infrastructure.errors import InfrastructureError
from controlplane.infrastructure.names import LIVE_ALIAS, function_name
from controlplane.lib import clock

_POLL_SECONDS = 10.0


class Watch:
    """What is watched while a version goes live. Raises InfrastructureError when an alarm is not there."""

    def __init__(self, stage: str, account: Account) -> None:
        """An alarm that rings already says nothing of the new version, which may be there to end it."""
        self.names = [alarm_name(stage, title) for title in RELEASE_ALARMS]
        self._function = function_name(stage)
        self._cloudwatch = account.client("cloudwatch")
        states = self._states()
        missing = [name for name in self.names if name not in states]
        if missing:
            raise InfrastructureError(
                f"These alarms are not there: {', '.join(missing)}. "
                f"First: manage.py infrastructure deploy --stage {stage}"
            )
        self.ringing = [name for name in self.names if states[name] == "ALARM"]

    def keep(self, version: str, seconds: float) -> None:
        """Look for this long. Raises InfrastructureError as soon as an alarm goes off, or `version` breaks off."""
        since = clock.now()
        deadline = time.monotonic() + seconds
        while True:
            self._look(version, since)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL_SECONDS))

    def _look(self, version: str, since: datetime) -> None:
        went_off = [name for name, state in self._states().items() if state == "ALARM" and name not in self.ringing]
        if went_off:
            raise InfrastructureError(f"Went off: {', '.join(sorted(went_off))}.")
        errors = self._errors(version, since)
        if errors:
            raise InfrastructureError(f"Version {version} broke off {errors} times; its log says why.")

    def _states(self) -> dict[str, str]:
        with aws_errors():
            found = self._cloudwatch.describe_alarms(AlarmNames=self.names, AlarmTypes=["MetricAlarm"])
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found["MetricAlarms"]}

    def _errors(self, version: str, since: datetime) -> int:
        """How often this version raised, or ran out of time or memory, as far as Lambda has told (after a minute)."""
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
