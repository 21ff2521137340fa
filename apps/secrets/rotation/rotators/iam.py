"""The access key of a user of AWS's IAM, who may have two keys at a time.

The value is JSON: ``{"access_key_id": "AKIA…", "secret_access_key": "…"}``.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings

from apps.secrets.rotation.targets.aws import REGION, ROLE, client_of
from controlplane.lib import clock
from controlplane.lib.aws_accounts import AwsRefused, aws_call, key_owner
from controlplane.lib.rotation import Notes, NotYet, Option, Rotator, Step, StepRefused

_MOST_KEYS = 2
_LOOK_AGAIN = timedelta(seconds=5)
# A key that was made for us, whose answer was lost, may seem this much older than our clock says.
_CLOCKS_DIFFER = timedelta(minutes=5)


class IamAccessKey(Rotator):
    """The old key is deactivated when the overlap has ended, which can be undone, and deleted some hours later."""

    title = "AWS access key"
    options: ClassVar[Mapping[str, Option]] = {
        "user": Option("must be the name of the user", pattern=r"[A-Za-z0-9+=,.@_-]{1,64}"),
        "delete_after_hours": Option(
            "must be the hours from 0 to 720 for which a deactivated key can be activated again",
            kind=int,
            most=720,
            default=24,
        ),
        "region": REGION,
        "role_arn": ROLE,
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"the user {config['user']} of AWS"

    def prepare(self, step: Step) -> Notes | None:
        """Note which keys there are, so that `make` recognises one of its own whose answer was lost."""
        keys = self._keys(step)
        if len(keys) >= _MOST_KEYS:
            raise StepRefused(f"{step.config['user']} has two access keys already: {', '.join(keys)}. Delete one.")
        return {"keys": " ".join(keys)}

    def make(self, step: Step) -> str:
        before = step.notes.get("keys", "").split()
        self._lost_delete(step, before)
        answer = self._call(step, "create_access_key", UserName=step.config["user"])["AccessKey"]
        return json.dumps(
            {"access_key_id": answer["AccessKeyId"], "secret_access_key": answer["SecretAccessKey"]},
            separators=(",", ":"),
        )

    def apply(self, step: Step) -> Notes | None:
        """`make` has made the key already."""
        return {"key": _key_of(step.new)[0]}

    def verify(self, step: Step) -> Notes | None:
        key_id, secret = _key_of(step.new)
        region = step.config["region"] or settings.AWS_REGION
        try:
            owner = key_owner(access_key_id=key_id, secret_access_key=secret, region=region)
        except AwsRefused as error:
            # A new key is not known everywhere at once.
            raise NotYet(f"AWS does not accept the new key yet: {error.code}.", after=_LOOK_AGAIN) from None
        if owner.rpartition("/")[2] != step.config["user"]:
            raise StepRefused("The new key belongs to another user.")
        return None

    def commit(self, step: Step) -> Notes | None:
        user, old = step.config["user"], _key_of(step.old)[0]
        status = self._keys(step).get(old)
        if status is None:
            return None
        if status == "Active":
            self._call(step, "update_access_key", UserName=user, AccessKeyId=old, Status="Inactive")
        deactivated_at = step.notes.get("deactivated_at") or clock.timestamp(clock.now())
        delete_at = clock.parse_timestamp(deactivated_at) + timedelta(hours=step.config["delete_after_hours"])
        rest = delete_at - clock.now()
        if rest > timedelta() and not step.is_urgent:
            raise NotYet("The old key is deactivated.", after=rest, notes={"deactivated_at": deactivated_at})
        self._delete(step, old)
        return None

    def revert(self, step: Step) -> Notes | None:
        new = _key_of(step.new)[0]
        if new and new != _key_of(step.old)[0]:
            self._delete(step, new)
        self._lost_delete(step, [*step.notes.get("keys", "").split(), new])
        return None

    def _lost_delete(self, step: Step, known: list[str]) -> None:
        """Delete keys that `make` has made, and whose secrets are lost. A key that was used is not such a one."""
        found = self._call(step, "list_access_keys", UserName=step.config["user"])["AccessKeyMetadata"]
        for key in found:
            key_id = key["AccessKeyId"]
            if key_id in known or key["CreateDate"] < step.began_at - _CLOCKS_DIFFER:
                continue
            use = self._call(step, "get_access_key_last_used", AccessKeyId=key_id)["AccessKeyLastUsed"]
            if use.get("LastUsedDate"):
                raise StepRefused(f"Something else made the key {key_id} of {step.config['user']} at the same time.")
            self._delete(step, key_id)

    def _keys(self, step: Step) -> dict[str, str]:
        """The status of each key by its id."""
        found = self._call(step, "list_access_keys", UserName=step.config["user"])["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}

    def _delete(self, step: Step, key_id: str) -> None:
        try:
            self._call(step, "delete_access_key", UserName=step.config["user"], AccessKeyId=key_id)
        except _Missing:
            return

    def _call(self, step: Step, operation: str, **arguments: Any) -> dict[str, Any]:
        try:
            return aws_call(getattr(client_of("iam", step), operation), **arguments)
        except AwsRefused as error:
            if error.code == "NoSuchEntity" and operation == "delete_access_key":
                raise _Missing from None
            raise StepRefused(str(error)) from None


class _Missing(Exception):
    """There is no such key."""


def _key_of(value: str) -> tuple[str, str]:
    """The id and the secret in a value; empty for a value that is no access key."""
    try:
        found = json.loads(value)
        return str(found["access_key_id"]), str(found["secret_access_key"])
    except (ValueError, TypeError, KeyError):
        return "", ""
