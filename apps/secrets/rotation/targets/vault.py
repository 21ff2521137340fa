"""HashiCorp Vault, and OpenBao: a member of a secret of the KV engine, version 2.

https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from apps.secrets.rotation.calls import Answer, call
from apps.secrets.rotation.targets.copies import ReadableCopy
from controlplane.lib.errors import Unavailable
from controlplane.lib.rotation import ADDRESS, Notes, Option, Step, secret_option

_PATH = r"[A-Za-z0-9_.@-]+(?:/[A-Za-z0-9_.@-]+)*"


class VaultSecret(ReadableCopy):
    """Other members of the secret stay as they are: a write names the version that was read ("check-and-set")."""

    title = "HashiCorp Vault"
    options: ClassVar[Mapping[str, Option]] = {
        "address": Option("must be Vault's address, such as https://vault.example.com", pattern=ADDRESS),
        "mount": Option("must be the path of the KV engine", pattern=_PATH, default="secret"),
        "path": Option("must be the path of the secret in the engine", pattern=_PATH),
        "key": Option("must be the name of the member", pattern=r"[A-Za-z0-9_.-]{1,128}"),
        "namespace": Option("must be the path of a namespace", pattern=f"{_PATH}/?", default=""),
        "token_secret": secret_option("a token of Vault"),
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{config['mount']}/{config['path']} ({config['key']}) in Vault"

    def prepare(self, step: Step) -> Notes | None:
        """Renew the token, too: a periodic one lives on if that is done within each period."""
        # One that cannot be renewed is refused, and may be valid all the same: reading tells.
        self._call("POST", step, "auth/token/renew-self", accept=(400, 403, 404))
        return super().prepare(step)

    def read(self, step: Step) -> str | None:
        members, _ = self._secret(step)
        value = members.get(step.config["key"])
        return value if isinstance(value, str) else None

    def write(self, step: Step, value: str) -> None:
        members, version = self._secret(step)
        body = {"options": {"cas": version}, "data": {**members, step.config["key"]: value}}
        answer = self._call("POST", step, _data(step), json.dumps(body).encode(), accept=(400,))
        if answer.status == 400:
            # Vault says so if the version has changed since; then a later try reads the new one.
            raise Unavailable("Vault did not take the new version: another client may have written at the same moment.")

    def _secret(self, step: Step) -> tuple[dict[str, Any], int]:
        """The members of the secret and its version: none and 0 if there is none, none if its version is deleted."""
        answer = self._call("GET", step, _data(step), accept=(404,))
        members = answer.member("data", "data")
        version = answer.member("data", "metadata", "version")
        return members if isinstance(members, dict) else {}, version if isinstance(version, int) else 0

    def _call(
        self, method: str, step: Step, path: str, body: bytes | None = None, *, accept: tuple[int, ...] = ()
    ) -> Answer:
        config = step.config
        headers = {"X-Vault-Token": step.credential(config["token_secret"]), "X-Vault-Request": "true"}
        if config["namespace"]:
            headers["X-Vault-Namespace"] = config["namespace"]
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = f"{config['address'].rstrip('/')}/v1/{path}"
        return call(method, url, headers=headers, body=body, accept=accept)


def _data(step: Step) -> str:
    return f"{step.config['mount']}/data/{step.config['path']}"
