"""What each event says: from where, in which session and request, and what a setting was before."""

from typing import Any

import pytest

from apps.accounts.models import Session
from apps.accounts.services import user_create, user_update
from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_search
from apps.pipelines.services import pipeline_save
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.work import Work, at_work
from controlplane.nosql.transaction import Transaction
from tests.audit.trail import ADA, event
from tests.conftest import ADMIN, PASSWORD, person, someone
from tests.contract.test_access import session_of

pytestmark = pytest.mark.usefixtures("tables")

YAML = "steps: [{run: make}]"


def found(action: Action, **search: Any) -> list[AuditRecord]:
    return audit_search(action=action, **search).records


def test_an_event_has_the_address_the_session_and_the_id_of_its_request(server: str) -> None:
    client = person(server, "operator")
    body = {"repository": "https://git.example.com/a.git", "default_ref": "main", "definition": YAML}
    answer = client.put("/pipelines/web", json=body)
    assert answer.status_code == 201, answer.text
    (saved,) = found(Action.PIPELINE_SAVED)
    assert (saved.address, saved.request_id) == ("127.0.0.1", answer.headers["X-Request-Id"])
    assert saved.session is None or saved.actor_kind == "user"
    (shown,) = person(server, "auditor").get("/audit", params={"action": "pipeline.saved"}).json()["events"]
    assert (shown["address"], shown["request_id"]) == (saved.address, saved.request_id)


def test_the_session_is_named_by_its_public_id(server: str) -> None:
    browser = session_of(server, someone("admin"))
    assert browser.post("/tokens", json={"name": "ci"}).status_code == 201
    (session,) = [session for session in Session.scan() if session.device_id]
    (created,) = found(Action.API_TOKEN_CREATED)
    assert created.session == session.device_id
    assert created.actor_id == session.user_id


def test_an_act_of_the_control_plane_itself_has_no_address_and_the_id_of_its_sweep() -> None:
    with at_work(Work(request_id="the-sweep", route="sweep")):
        recorded = event(actor=SYSTEM)
    assert (recorded.address, recorded.session, recorded.request_id) == (None, None, "the-sweep")
    assert event(actor=SYSTEM).request_id is None


def test_an_event_with_all_of_these_is_smaller_than_a_kilobyte() -> None:
    work = Work(request_id="JKJaXmPLvHcESHA=", route="/jobs", client=lambda: "2001:0db8:85a3:0000:0000:8a2e:0370:7334")
    work.session = "01ksession0000000000000000"
    detail = {
        "pipeline": "a-pipeline",
        "git_ref": "feature/" + "x" * 60,
        "retry_of": "01kjob" + "0" * 20,
    }
    with at_work(work):
        recorded = event("job:01kjob0000000000000000000a", actor=ADA, detail=detail)
    assert recorded.stored_bytes() < 1024


def test_schedules_and_webhooks_are_actors_that_a_search_finds(server: str) -> None:
    auditor = person(server, "auditor")
    for kind in ("schedule", "webhook"):
        tx = Transaction()
        tx.put("event", event(f"secret:{kind}", actor=Actor(kind, "nightly", "every night")))
        tx.commit()
        answer = auditor.get("/audit", params={"actor": f"{kind}:nightly"})
        assert [entry["target"] for entry in answer.json()["events"]] == [f"secret:{kind}"]


# --- before and after -----------------------------------------------------------------------------------------------


def test_a_changed_role_is_shown_as_old_and_new() -> None:
    user = user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=ADMIN)
    user_update(user_id=user.user_id, name="Eve", role="operator", is_active=True, revision=0, actor=ADMIN)
    (changed,) = found(Action.USER_CHANGED)
    assert changed.detail == {"role": "viewer → operator"}


def test_a_changed_pipeline_is_shown_as_old_and_new_with_a_fingerprint_of_its_definition() -> None:
    for ref, definition, labels in (("main", None, ["gpu"]), ("next", None, []), ("next", YAML, [])):
        pipeline_save(
            actor=ADMIN,
            name="web",
            repository="https://git.example.com/a.git",
            default_ref=ref,
            definition=definition,
            labels=labels,
        )
    third, second, first = (record.detail for record in found(Action.PIPELINE_SAVED))
    assert first["default_ref"] == "main"
    assert second == {"default_ref": "main → next", "labels": "gpu → none", "revision": 2}
    assert third["definition"].startswith("in the repository → on the server (")
    assert YAML not in str(third)
