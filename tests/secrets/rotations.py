"""Rotations for tests: their plans, the time that passes, and the faults that come in between."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from urllib3 import PoolManager
from urllib3.exceptions import ProtocolError

from apps.secrets.models import Rotation
from apps.secrets.rotation.steps import FINAL
from apps.secrets.selectors import secret_get, secret_versions
from apps.secrets.selectors.rotations import rotation_get
from apps.secrets.services import secret_create, version_value
from apps.secrets.services.rotation_plans import rotation_configure
from apps.secrets.services.rotation_schedule import rotations_advance
from apps.secrets.services.rotations import secret_rotate
from controlplane.lib import clock, metric_names
from controlplane.lib.errors import ApplicationError, Unavailable
from controlplane.lib.work import Work, at_work
from controlplane.nosql.connection import SharedConnection
from tests.conftest import ADMIN, OPERATOR
from tests.secrets.systems import (
    GITHUB_TOKEN,
    KUBERNETES_TOKEN,
    REGISTRY_TOKEN,
    VAULT_TOKEN,
    WEBHOOK_KEY,
    Systems,
)

ID = "DATABASE_URL"
OLD = "the value before the rotation"
OVERLAP = 5
REGISTRY_KEY = "first.key"

CREDENTIALS = {
    "VAULT_TOKEN": VAULT_TOKEN,
    "GH_TOKEN": GITHUB_TOKEN,
    "K8S_TOKEN": KUBERNETES_TOKEN,
    "HOOK_KEY": WEBHOOK_KEY,
    "REGISTRY_ADMIN": REGISTRY_TOKEN,
}


def vault(systems: Systems) -> dict[str, Any]:
    config = {"address": systems.url, "path": "app/db", "key": "url", "token_secret": "VAULT_TOKEN"}
    return {"name": "vault", "kind": "vault", "config": config}


def github(systems: Systems, **more: str) -> dict[str, Any]:
    config = {"repository": "acme/app", "name": "DB_URL", "token_secret": "GH_TOKEN", **more}
    return {"name": "github", "kind": "github", "config": config}


def kubernetes(systems: Systems) -> dict[str, Any]:
    config = {
        "address": systems.url,
        "namespace": "apps",
        "name": "db",
        "key": "url",
        "token_secret": "K8S_TOKEN",
    }
    return {"name": "cluster", "kind": "kubernetes", "config": config}


def webhook(systems: Systems) -> dict[str, Any]:
    return {"name": "hook", "kind": "webhook", "config": {"url": f"{systems.url}/hook", "signing_secret": "HOOK_KEY"}}


def registry(systems: Systems) -> dict[str, Any]:
    """The configuration of the rotator in the manual, whose registry has one key."""
    systems.registry.clear()
    systems.registry["first"] = REGISTRY_KEY
    return {"address": f"{systems.url}/registry", "admin_secret": "REGISTRY_ADMIN"}


def copies(systems: Systems) -> dict[str, str | None]:
    """What Vault, GitHub and Kubernetes hold."""
    encoded = systems.kubernetes["db"][1].get("url")
    return {
        "vault": systems.vault.get("app/db", (0, {}))[1].get("url"),
        "github": systems.github.get("actions/DB_URL"),
        "cluster": base64.b64decode(encoded).decode() if encoded else None,
    }


def filled(systems: Systems, value: str) -> None:
    """The systems as before a rotation: all hold this value, beside other members."""
    systems.vault["app/db"] = (4, {"url": value, "user": "app"})
    systems.github["actions/DB_URL"], systems.github_times["actions/DB_URL"] = value, "2025-12-31T00:00:00Z"
    systems.kubernetes["db"] = (7, {"url": base64.b64encode(value.encode()).decode(), "user": "YXBw"})
    systems.webhook_value = value


def planned(
    targets: list[dict[str, Any]],
    *,
    rotator: str = "generated",
    config: dict[str, Any] | None = None,
    value: str = OLD,
    **more: Any,
) -> None:
    """A secret with this plan, and the secrets with the credentials of its targets."""
    for name, credential in CREDENTIALS.items():
        secret_create(actor=OPERATOR, name=name, value=credential)
    secret_create(actor=OPERATOR, name=ID, value=value)
    more = {"overlap_minutes": OVERLAP, **more}
    rotation_configure(actor=ADMIN, secret_id=ID, rotator=rotator, config=config or {}, targets=targets, **more)


def begun() -> Rotation:
    """A rotation that an operator has begun."""
    return secret_rotate(actor=OPERATOR, secret_id=ID)


def current() -> str:
    """The value that jobs get."""
    return version_value(secret_id=ID, number=int(secret_get(ID).current))


def states() -> list[str]:
    """The states of the versions, oldest first."""
    return [str(version.state) for version in reversed(secret_versions(ID))]


def measured() -> float:
    """The value of the alarm's metric after a sweep; 0 if it has none."""
    with at_work(Work("sweep")) as work:
        rotations_advance(seconds=9)
    return dict(work.measures).get(metric_names.ROTATIONS_ALARMING, 0)


class Killed(BaseException):
    """The process has ended at this point."""


class Fault(StrEnum):
    """What happens to one call to the outside."""

    REFUSED = "not made, and no answer"
    LOST = "made, and no answer"
    KILLED_BEFORE = "the process ends before it"
    KILLED_AFTER = "the process ends after it"
    DENIED = "this one and all later ones of this step are refused for good"


# Not empty while a sweep runs: what tests read is not counted.
_sweeps: list[bool] = []


@dataclass
class Calls:
    """Counts the calls of the sweeps of a block, and lets `fault` happen to one of them.

    That is the one with the number `at`, or the write with the number `at_write` among the writes.
    """

    at: int = -1
    at_write: int = -1
    fault: Fault | None = None
    # Whether each call so far was a read.
    reads: list[bool] = field(default_factory=list)

    @property
    def number(self) -> int:
        return len(self.reads)

    @property
    def writes(self) -> int:
        return self.reads.count(False)

    def faults(self) -> list[tuple[int, Fault]]:
        """Each fault of each call. A read that is made and not answered is as one that is not made."""
        return [
            (number, fault)
            for number, is_read in enumerate(self.reads)
            for fault in Fault
            if not (is_read and fault in (Fault.LOST, Fault.KILLED_AFTER))
        ]

    def around(
        self,
        call: Callable[[], Any],
        no_answer: Callable[[], Exception],
        denied: Callable[[], Any],
        *,
        is_read: bool = False,
    ) -> Any:
        if not _sweeps:
            return call()
        here = self.number == self.at or (not is_read and self.writes == self.at_write)
        self.reads.append(is_read)
        if not here:
            return call()
        match self.fault:
            case Fault.REFUSED:
                raise no_answer()
            case Fault.KILLED_BEFORE:
                raise Killed
            case Fault.DENIED:
                return denied()
        answer = call()
        if self.fault is None:
            return answer
        if self.fault == Fault.KILLED_AFTER:
            raise Killed
        raise no_answer()


@contextmanager
def outside_calls(calls: Calls) -> Iterator[None]:
    """Count the requests of rotators and targets by HTTP, to AWS, and to PostgreSQL."""
    from pg8000.exceptions import DatabaseError, InterfaceError
    from pg8000.native import Connection

    send_http, send_aws, run = PoolManager.request, URLLib3Session.send, Connection.run

    def http(self: Any, method: str, url: str, **arguments: Any) -> Any:
        def no_answer() -> Exception:
            return ProtocolError("no answer")

        def denied() -> Any:
            class Refusal:
                status = 403

                def read(self, _size: int) -> bytes:
                    return b"{}"

                def close(self) -> None:
                    """Nothing."""

            return Refusal()

        request = partial(send_http, self, method, url, **arguments)
        return calls.around(request, no_answer, denied, is_read=method == "GET")

    def aws(self: Any, request: Any) -> Any:
        def no_answer() -> Exception:
            return ReadTimeoutError(endpoint_url=request.url)

        operation = f"{request.headers.get('X-Amz-Target')} {request.body!r}"
        is_read = re.search(r"(\.|Action=)(Get|List|Describe)", operation)
        return calls.around(
            partial(send_aws, self, request), no_answer, partial(_aws_refusal, request), is_read=bool(is_read)
        )

    def sql(self: Any, statement: str, **arguments: Any) -> Any:
        def denied() -> Any:
            raise DatabaseError({"C": "42501"})

        request = partial(run, self, statement, **arguments)
        is_read = statement.startswith("SELECT")
        return calls.around(request, lambda: InterfaceError("no answer"), denied, is_read=is_read)

    with (
        patch.object(PoolManager, "request", http),
        patch.object(URLLib3Session, "send", aws),
        patch.object(Connection, "run", sql),
    ):
        yield


def _aws_refusal(request: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    class Raw:
        def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
            yield json.dumps({"__type": "AccessDeniedException"}).encode()

    return AWSResponse(request.url, 400, {}, Raw())


@contextmanager
def database_calls(calls: Calls) -> Iterator[None]:
    """Count the calls to DynamoDB."""
    send = SharedConnection._make_api_call

    def counted(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        is_read = operation in ("GetItem", "Query", "BatchGetItem", "TransactGetItems")
        return calls.around(partial(send, self, operation, arguments), Unavailable, Unavailable, is_read=is_read)

    with patch.object(SharedConnection, "_make_api_call", counted):
        yield


def sweep(minutes: int = 0) -> None:
    """The time passes, and the sweep runs, to its end or to a fault."""
    clock._offset += timedelta(minutes=minutes)
    _sweeps.append(True)
    try:
        rotations_advance(seconds=60)
    except (Killed, ApplicationError):
        pass
    finally:
        _sweeps.clear()


def settled(rotation: Rotation, *, between: Callable[[], None] = lambda: None, minutes: int = 20) -> Rotation:
    """The rotation after as many sweeps as it needs; `between` is called after each."""
    for _ in range(120):
        found = rotation_get(rotation.rotation_id)
        if found.state in FINAL:
            return found
        sweep(minutes=minutes)
        between()
    raise AssertionError(f"it does not end: {found.state}, {found.message}, {found.steps}")


@contextmanager
def time_of_its_own() -> Iterator[None]:
    """The clock as the test shifts it, until the block ends."""
    before, began = clock._offset, time.monotonic()
    try:
        yield
    finally:
        clock._offset = before
        assert time.monotonic() - began < 600
