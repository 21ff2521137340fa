"""What is refused to someone who is signed in is recorded."""

from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_search
from apps.audit.services import refusals
from apps.audit.services.refusals import refusal_record
from apps.jobs.services import job_create
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Unavailable
from controlplane.nosql.transaction import Transaction
from tests.audit.trail import ADA, BUILDER
from tests.clients import Client
from tests.conftest import ADMIN, person
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")

YAML = "steps: [{run: make}]"


def found(action: Action, **search: Any) -> list[AuditRecord]:
    return audit_search(action=action, **search).records


def test_what_is_refused_to_a_signed_in_user_is_recorded_with_whom_what_and_from_where(server: str) -> None:
    viewer = person(server, "viewer")
    job = job_of()
    answer = viewer.post(f"/jobs/{job}/cancel", json={})
    assert answer.status_code == 403
    (refused,) = found(Action.ACCESS_REFUSED)
    assert (refused.target, refused.result, refused.address) == (f"job:{job}", "refused", "127.0.0.1")
    assert refused.detail == {"method": "POST", "path": f"/jobs/{job}/cancel", "code": "forbidden"}
    assert refused.actor_kind in ("user", "token")


def job_of() -> str:
    pipeline_save(
        actor=ADMIN, name="self", repository="https://git.example.com/a.git", default_ref="main", definition=YAML
    )
    return str(job_create(actor=ADMIN, pipeline="self").job_id)


def test_a_principals_refusals_are_recorded_once_a_minute_for_each_kind() -> None:
    def refuse(actor: Actor, route: str, method: str = "GET") -> None:
        refusal_record(actor=actor, method=method, route=route, arguments={}, path=route, code="forbidden")

    for _ in range(50):
        refuse(ADA, "/users")
        refuse(BUILDER, "/users")
    for number in range(50):
        refuse(ADA, "/audit", method=f"INVENTED{number}")
    assert len(found(Action.ACCESS_REFUSED)) == 3
    with dynamodb_calls() as counted:
        refuse(ADA, "/users")
    assert counted.calls == 0
    refusals.refusals_forget()
    refuse(ADA, "/users")
    assert len(found(Action.ACCESS_REFUSED)) == 4


def test_a_refusal_that_cannot_be_recorded_is_answered_with_503(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = person(server, "viewer")

    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "commit", fail)
        assert viewer.get("/audit").status_code == 503
    assert viewer.get("/audit").status_code == 403
    assert [record.target for record in found(Action.ACCESS_REFUSED)] == ["route:/audit"]


def test_what_is_refused_to_a_stranger_is_not_recorded(server: str) -> None:
    assert Client(server).get("/audit").status_code == 401
    assert found(Action.ACCESS_REFUSED) == []
