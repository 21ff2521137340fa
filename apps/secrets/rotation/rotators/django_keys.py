"""The key that signs sessions and cursors (SECRET_KEY), and its fallbacks, where a stage on AWS stores them.

Every process must accept a key before any process signs with it. So the new key is a fallback first, then it signs with
the old one as a fallback, and when the overlap has ended, the old one is removed. Processes read both only when they
start: deploy in between, or wait until Lambda has replaced them.
"""

import hmac
import os
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings

from apps.secrets.rotation.targets.aws import REGION, ROLE, client_of
from controlplane.lib import clock
from controlplane.lib.aws_accounts import AwsRefused, aws_call
from controlplane.lib.rotation import Notes, NotYet, Option, Rotator, Step, StepRefused
from controlplane.lib.stage_secrets import PARAMETER_STORE, SECRETS_MANAGER, secret_path

_KEY, _FALLBACKS = "SECRET_KEY", "SECRET_KEY_FALLBACKS"
_KEY_BYTES = 50
_MISSING = ("ParameterNotFound", "ResourceNotFoundException")


class DjangoSigningKey(Rotator):
    """The secret's value must be the stage's SECRET_KEY when its first rotation begins."""

    title = "Django's signing key"
    options: ClassVar[Mapping[str, Option]] = {
        "settle_hours": Option(
            "must be the hours from 0 to 168 after which every process has started anew",
            kind=int,
            most=168,
            default=24,
        ),
        "region": REGION,
        "role_arn": ROLE,
    }
    patience = timedelta(days=8)

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{_KEY} of the stage {settings.STAGE}"

    def least_overlap(self, config: Mapping[str, Any]) -> timedelta:
        """Processes that run on sign with the old key until they end; what they signed lasts as long as sessions."""
        return timedelta(hours=config["settle_hours"], seconds=settings.SESSION_COOKIE_AGE)

    def prepare(self, step: Step) -> Notes | None:
        if not _same(self._read(step, _KEY) or "", step.old):
            raise StepRefused(f"The secret's value must be the stage's {_KEY}. Set it, and rotate again.")
        return None

    def make(self, step: Step) -> str:
        return secrets.token_urlsafe(_KEY_BYTES)

    def apply(self, step: Step) -> Notes | None:
        key = self._read(step, _KEY) or ""
        fallbacks = self._fallbacks(step)
        if _same(key, step.new):
            # All but the last write was done before.
            self._fallbacks_write(step, _with(fallbacks, first=step.old, without=step.new))
            return None
        if step.new not in fallbacks:
            self._fallbacks_write(step, _with(fallbacks, first=step.new))
        accepted_at = step.notes.get("accepted_at") or clock.timestamp(clock.now())
        settled_at = clock.parse_timestamp(accepted_at) + timedelta(hours=step.config["settle_hours"])
        rest = settled_at - clock.now()
        if rest > timedelta() and not step.is_urgent:
            raise NotYet(
                "The new key is accepted; until it signs, all processes must have started anew.",
                after=rest,
                notes={"accepted_at": accepted_at},
            )
        # Both keys are fallbacks while the key itself changes.
        self._fallbacks_write(step, _with(_with(fallbacks, first=step.new), first=step.old))
        self._write(step, _KEY, step.new)
        self._fallbacks_write(step, _with(fallbacks, first=step.old, without=step.new))
        return None

    def verify(self, step: Step) -> Notes | None:
        if not _same(self._read(step, _KEY) or "", step.new) or step.old not in self._fallbacks(step):
            raise NotYet(f"{self.place(step.config)} does not show the new key.")
        return None

    def commit(self, step: Step) -> Notes | None:
        fallbacks = self._fallbacks(step)
        if step.old in fallbacks:
            # A stored text cannot be empty. The key itself as its fallback changes nothing.
            self._fallbacks_write(step, _with(fallbacks, without=step.old) or [step.new])
        return None

    def revert(self, step: Step) -> Notes | None:
        if not _same(self._read(step, _KEY) or "", step.old):
            self._fallbacks_write(step, _with(self._fallbacks(step), first=step.old))
            self._write(step, _KEY, step.old)
        fallbacks = self._fallbacks(step)
        rest = _with(_with(fallbacks, without=step.new), without=step.old)
        if rest != fallbacks:
            self._fallbacks_write(step, rest or [step.old])
        return None

    def _fallbacks(self, step: Step) -> list[str]:
        return [key for key in (self._read(step, _FALLBACKS) or "").split(",") if key]

    def _fallbacks_write(self, step: Step, keys: list[str]) -> None:
        if keys != self._fallbacks(step):
            self._write(step, _FALLBACKS, ",".join(keys))

    def _read(self, step: Step, name: str) -> str | None:
        try:
            if _store() == SECRETS_MANAGER:
                client = client_of("secretsmanager", step)
                value: str = aws_call(client.get_secret_value, SecretId=_path(name))["SecretString"]
            else:
                client = client_of("ssm", step)
                answer = aws_call(client.get_parameter, Name=f"/{_path(name)}", WithDecryption=True)
                value = answer["Parameter"]["Value"]
        except AwsRefused as error:
            if error.code in _MISSING:
                return None
            raise StepRefused(str(error)) from None
        return value

    def _write(self, step: Step, name: str, value: str) -> None:
        try:
            if _store() == SECRETS_MANAGER:
                self._secret_write(step, name, value)
            else:
                aws_call(
                    client_of("ssm", step).put_parameter,
                    Name=f"/{_path(name)}",
                    Value=value,
                    Type="SecureString",
                    Overwrite=True,
                    **({"KeyId": settings.KMS_KEY_ID} if settings.KMS_KEY_ID else {}),
                )
        except AwsRefused as error:
            raise StepRefused(str(error)) from None

    def _secret_write(self, step: Step, name: str, value: str) -> None:
        client = client_of("secretsmanager", step)
        try:
            aws_call(client.put_secret_value, SecretId=_path(name), SecretString=value)
        except AwsRefused as error:
            if error.code not in _MISSING:
                raise
            key = {"KmsKeyId": settings.KMS_KEY_ID} if settings.KMS_KEY_ID else {}
            aws_call(client.create_secret, Name=_path(name), SecretString=value, **key)


def _store() -> str:
    return os.environ.get("SECRETS_STORE") or PARAMETER_STORE


def _path(name: str) -> str:
    return f"{secret_path(settings.STAGE)}{name}"


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _with(keys: list[str], *, first: str | None = None, without: str | None = None) -> list[str]:
    """The keys in their order, each once, with one of them in front and one of them left out."""
    ordered = dict.fromkeys([*([first] if first else []), *keys])
    return [key for key in ordered if key != without]
