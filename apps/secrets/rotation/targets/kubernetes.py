"""A member of a secret of Kubernetes.

https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from apps.secrets.rotation.calls import Answer, call
from apps.secrets.rotation.targets.copies import ReadableCopy
from controlplane.lib.errors import Unavailable
from controlplane.lib.rotation import ADDRESS, Option, Step, secret_option

_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"


class KubernetesSecret(ReadableCopy):
    """The secret must exist; its other members stay as they are.

    Pods that mount it see the new value within about a minute. Pods that have it in their environment see it when they
    start again.
    """

    title = "Kubernetes"
    options: ClassVar[Mapping[str, Option]] = {
        "address": Option("must be the address of the API server", pattern=ADDRESS),
        "namespace": Option("must be the name of a namespace", pattern=r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"),
        "name": Option("must be the name of the secret", pattern=_NAME),
        "key": Option("must be the name of the member", pattern=r"[A-Za-z0-9._-]{1,253}"),
        "token_secret": secret_option("the token of a service account"),
        "ca_certificate": Option(
            "must be the certificate of the cluster's CA in PEM, or left out for a public one",
            pattern=r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s-]{1,20000}-----END CERTIFICATE-----\s*",
            default="",
        ),
    }

    def place(self, config: Mapping[str, Any]) -> str:
        return f"{config['namespace']}/{config['name']} ({config['key']}) in Kubernetes"

    def read(self, step: Step) -> str | None:
        return self._secret(step)[0]

    def write(self, step: Step, value: str) -> None:
        _, version = self._secret(step)
        # With its version, the patch is refused if something else has changed the secret.
        patch = {
            "metadata": {"resourceVersion": version},
            "data": {step.config["key"]: base64.b64encode(value.encode()).decode()},
        }
        answer = self._call("PATCH", step, json.dumps(patch).encode(), accept=(409,))
        if answer.status == 409:
            raise Unavailable("The secret of Kubernetes was changed at the same moment.")

    def _secret(self, step: Step) -> tuple[str | None, Any]:
        """The member, and the secret's version."""
        answer = self._call("GET", step)
        encoded = answer.member("data", step.config["key"])
        version = answer.member("metadata", "resourceVersion")
        try:
            return base64.b64decode(encoded, validate=True).decode() if isinstance(encoded, str) else None, version
        except ValueError:
            # Bytes that are no text are no value of ours.
            return None, version

    def _call(self, method: str, step: Step, body: bytes | None = None, *, accept: tuple[int, ...] = ()) -> Answer:
        config = step.config
        headers = {"Accept": "application/json", "Authorization": f"Bearer {step.credential(config['token_secret'])}"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        url = f"{config['address'].rstrip('/')}/api/v1/namespaces/{config['namespace']}/secrets/{config['name']}"
        return call(
            method, url, headers=headers, body=body, accept=accept, ca_certificate=config["ca_certificate"] or None
        )
