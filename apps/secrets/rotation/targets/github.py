"""Secrets of GitHub Actions, of a repository or of one of its environments.

https://docs.github.com/en/rest/actions/secrets. GitHub never gives a value back, only the time of its last change.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from django.conf import settings

from apps.secrets.rotation.calls import Answer, call
from controlplane.lib.rotation import Notes, NotYet, Option, Step, StepRefused, Target, secret_option
from controlplane.lib.sealed_box import seal

_MISSING = "missing"


class GithubSecret(Target):
    """Values go to GitHub in a sealed box, which only GitHub opens.

    Whether a repeated step must write again is known from the time of the last change: `prepare` notes it.
    """

    title = "GitHub Actions"
    options: ClassVar[Mapping[str, Option]] = {
        "repository": Option("must be owner/name", pattern=r"[A-Za-z0-9-]{1,39}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}"),
        "environment": Option("must be the name of an environment", pattern=r"[^\x00-\x1f]{1,255}", default=""),
        "name": Option("must be the name of the secret", pattern=r"(?!GITHUB_)[A-Z_][A-Z0-9_]{0,99}"),
        "token_secret": secret_option("a token that may write secrets of the repository"),
    }

    def place(self, config: Mapping[str, Any]) -> str:
        of = f", environment {config['environment']}" if config["environment"] else ""
        return f"{config['name']} of {config['repository']}{of} at GitHub"

    def prepare(self, step: Step) -> Notes | None:
        # The key proves that the token may do something with secrets here.
        self._public_key(step)
        return {"changed_before": self._changed_at(step)}

    def apply(self, step: Step) -> Notes | None:
        if not (step.is_repeated and self._changed_at(step) != step.notes.get("changed_before")):
            self._put(step, step.new)
        return None

    def verify(self, step: Step) -> Notes | None:
        changed_at = self._changed_at(step)
        if changed_at in (_MISSING, step.notes.get("changed_before")):
            raise NotYet(f"{self.place(step.config)} does not show the change.")
        return {"changed": changed_at}

    def revert(self, step: Step) -> Notes | None:
        self._put(step, step.old)
        return None

    def _put(self, step: Step, value: str) -> None:
        key_id, key = self._public_key(step)
        body = {"encrypted_value": _sealed(value, key), "key_id": key_id}
        self._call("PUT", step, step.config["name"], body=json.dumps(body).encode())

    def _public_key(self, step: Step) -> tuple[str, str]:
        answer = self._call("GET", step, "public-key")
        key_id, key = answer.member("key_id"), answer.member("key")
        if not isinstance(key_id, str) or not isinstance(key, str):
            raise StepRefused("GitHub's answer has no public key.")
        return key_id, key

    def _changed_at(self, step: Step) -> str:
        answer = self._call("GET", step, step.config["name"], accept=(404,))
        return _MISSING if answer.status == 404 else str(answer.member("updated_at"))

    def _call(
        self, method: str, step: Step, what: str, *, body: bytes | None = None, accept: tuple[int, ...] = ()
    ) -> Answer:
        config = step.config
        of = f"environments/{quote(config['environment'], safe='')}" if config["environment"] else "actions"
        url = f"{settings.GITHUB_API_URL.rstrip('/')}/repos/{config['repository']}/{of}/secrets/{what}"
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {step.credential(config['token_secret'])}",
            "User-Agent": "hybrid-ci-cd",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        return call(method, url, headers=headers, body=body, accept=accept)


def _sealed(value: str, public_key: str) -> str:
    """The value in a sealed box of libsodium for this key; both in base64. Raises StepRefused for a malformed key."""
    try:
        box = seal(value.encode(), base64.b64decode(public_key, validate=True))
    except ValueError:
        raise StepRefused("GitHub's public key is malformed.") from None
    return base64.b64encode(box).decode()
