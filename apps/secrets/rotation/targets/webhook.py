"""A signed webhook, for systems that have no target of their own: each step is one request.

The headers are those of Standard Webhooks (https://www.standardwebhooks.com), so that receivers can use its libraries.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from apps.secrets.rotation.calls import call
from controlplane.lib import clock
from controlplane.lib.rotation import Notes, NotYet, Option, Step, Target, secret_option

_PREFIX = "whsec_"
_URL = r"https?://[A-Za-z0-9.\[\]:-]{1,255}(?:/[A-Za-z0-9._~/%-]{0,512})?"


class SignedWebhook(Target):
    """The receiver does what the event says and answers 2xx once that is done, also if it had done it before.

    The id of an event is the same in each repetition. The answer 202 means that it is not done yet: the event comes
    again. `verify` has the value, which the receiver compares with its own.
    """

    title = "webhook"
    options: ClassVar[Mapping[str, Option]] = {
        "url": Option("must be the address of the receiver", pattern=_URL),
        "signing_secret": secret_option("the key that signs (whsec_ and base64, or any text)"),
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return str(config["url"])

    def prepare(self, step: Step) -> Notes | None:
        return self._send(step, "prepare", None)

    def apply(self, step: Step) -> Notes | None:
        return self._send(step, "apply", step.new)

    def verify(self, step: Step) -> Notes | None:
        return self._send(step, "verify", step.new)

    def commit(self, step: Step) -> Notes | None:
        return self._send(step, "commit", None)

    def revert(self, step: Step) -> Notes | None:
        return self._send(step, "revert", step.old)

    def _send(self, step: Step, act: str, value: str | None) -> Notes | None:
        data = {"secret": step.secret_id, "rotation": step.rotation_id, "value": value}
        event = {"type": f"secret.rotation.{act}", "timestamp": clock.timestamp(clock.now()), "data": data}
        body = json.dumps(event).encode()
        message_id = f"msg_{hashlib.sha256(step.step_id.encode()).hexdigest()[:32]}"
        sent_at = str(clock.epoch())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": sent_at,
            "webhook-signature": signature(step.credential(step.config["signing_secret"]), message_id, sent_at, body),
        }
        answer = call("POST", step.config["url"], headers=headers, body=body)
        if answer.status == 202:
            raise NotYet(f"{self.place(step.config)} goes on with it.")
        return None


def signature(secret: str, message_id: str, sent_at: str, body: bytes) -> str:
    """The value of the header ``webhook-signature``: HMAC-SHA256 over id, time and body."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except binascii.Error:
        key = b""
    signed = f"{message_id}.{sent_at}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key or secret.encode(), signed, 'sha256')).decode()}"
