"""``GET /audit``: the audit trail for programs."""

import json
import re
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import combinations, product
from typing import Any
from urllib.parse import quote

import pytest

from apps.audit.actions import Action
from apps.audit.canonical import leaf_hash
from apps.audit.merkle import consistency_verify, inclusion_verify
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.audit.sealed import copies_clear, sealed_trail
from tests.audit.trail import ADA, BUILDER, CI, event, write
from tests.clients import Client, problem
from tests.conftest import person, someone
from tests.contract.test_access import session_of

JOB = "job:01kjob0000000000000000000a"


@pytest.fixture
def auditor(server: str) -> Client:
    """A program that reads the trail, and its own events in it."""
    return person(server, "auditor")


def events(client: Client, **search: str | int) -> list[dict[str, Any]]:
    answer = client.get("/audit", params=search)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def test_an_event_says_who_did_what_to_what_when_and_with_which_result(auditor: Client) -> None:
    (written,) = write([event(JOB, actor=CI, action=Action.JOB_FINISHED, result="failed", detail={"exit_code": 1})])
    assert events(auditor, target=JOB) == [
        {
            "event_id": written.entry,
            "at": written.at,
            "actor": {"kind": "token", "id": CI.id, "name": "ci (ada@example.com)"},
            "address": None,
            "session": None,
            "request_id": None,
            "action": "job.finished",
            "target": JOB,
            "result": "failed",
            "detail": {"exit_code": 1},
        }
    ]


def test_events_are_found_by_actor_target_action_and_day(auditor: Client) -> None:
    write(
        [
            event(JOB),
            event(JOB, actor=CI, action=Action.JOB_CANCELLED),
            event(JOB, actor=BUILDER, action=Action.JOB_STARTED),
            event("agent:x", actor=SYSTEM, action=Action.AGENT_DELETED),
        ]
    )
    day = events(auditor, target=JOB)[0]["at"][:10]

    def found(**search: str | int) -> list[str]:
        return [entry["action"] for entry in events(auditor, **search) if entry["target"] in (JOB, "agent:x")]

    assert found(actor=f"user:{ADA.id}") == ["job.cancelled", "job.created"]
    assert found(actor="system") == ["agent.deleted"]
    assert found(target=JOB) == ["job.started", "job.cancelled", "job.created"]
    assert found(action="job.started") == ["job.started"]
    assert found(**{"from": day, "to": day}) == ["agent.deleted", "job.started", "job.cancelled", "job.created"]
    assert found(target=JOB, to="2026-01-01") == []
    assert found(target=JOB, actor=f"user:{ADA.id}", action="job.created", **{"from": day}) == ["job.created"]


def test_pages_continue_by_their_cursor(auditor: Client) -> None:
    write(event(JOB, detail={"number": number}) for number in range(5))
    search: dict[str, str | int] = {"target": JOB, "limit": 2}
    numbers = []
    while True:
        page = auditor.get("/audit", params=search).json()
        numbers += [entry["detail"]["number"] for entry in page["events"]]
        if page["next_cursor"] is None:
            break
        search["cursor"] = page["next_cursor"]
    assert numbers == [4, 3, 2, 1, 0]
    answer = auditor.get("/audit", params={**search, "target": "job:other"})
    problem(answer, 400, "invalid_cursor")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "ada@example.com"),
        ("actor", "user:"),
        ("actor", "system\n"),
        ("target", ""),
        ("target", "x" * 201),
        ("action", "job.invented"),
        ("from", "yesterday"),
        ("from", "20261121"),
        ("to", "2026-02-30"),
        ("limit", "0"),
        ("limit", "101"),
        ("first_day", "2026-11-21"),
    ],
)
def test_an_invalid_filter_is_refused_with_its_name(auditor: Client, field: str, value: str) -> None:
    answer = auditor.get("/audit", params={field: value})
    assert answer.status_code == 400, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_the_first_day_must_not_be_after_the_last(auditor: Client) -> None:
    answer = auditor.get("/audit", params={"from": "2026-11-22", "to": "2026-11-21"})
    assert answer.json()["errors"] == [{"field": "from", "message": "must not be after the day in “to”"}]


def test_a_user_without_the_permission_is_refused(operator: Client) -> None:
    problem(operator.get("/audit"), 403, "forbidden")


def test_seals_are_listed_with_what_was_signed_and_an_event_has_a_proof(auditor: Client) -> None:
    copies_clear()
    written = sealed_trail((3, 2))
    (fresh,) = write([event(JOB)])
    page = auditor.get("/audit/seals", params={"limit": 1})
    assert page.status_code == 200, page.text
    (second,) = page.json()["seals"]
    older = auditor.get("/audit/seals", params={"limit": 1, "cursor": page.json()["next_cursor"]})
    (first,) = older.json()["seals"]
    assert older.json()["next_cursor"] is None
    assert (first["number"], second["number"]) == (1, 2)
    assert second["size"] - first["size"] == second["records"] == 2
    previous = json.loads(second["statement"])["previous"]
    assert previous == first["digest"]
    assert previous == sha256(b"hybrid-ci audit seal v1\n" + first["statement"].encode()).hexdigest()
    proof = [bytes.fromhex(node) for node in second["consistency"]]
    roots = [bytes.fromhex(seal["root_hash"]) for seal in (first, second)]
    consistency_verify(first["size"], roots[0], second["size"], roots[1], proof)
    answer = auditor.get(f"/audit/{quote(written[-1].entry, safe='')}/proof")
    assert answer.status_code == 200, answer.text
    proved = answer.json()
    assert (proved["record"]["entry"], proved["leaf"]) == (written[-1].entry, second["size"] - 1)
    nodes = [bytes.fromhex(node) for node in proved["proof"]]
    inclusion_verify(leaf_hash(proved["record"]), proved["leaf"], second["size"], nodes, roots[1])
    problem(auditor.get(f"/audit/{quote(fresh.entry, safe='')}/proof"), 409, "event_not_sealed")
    for nothing in ("nothing", "2026-11-21T09:00:00.000000Z%2301kada0000000000000000000a", "x" * 3000, "%00"):
        problem(auditor.get(f"/audit/{nothing}/proof"), 404, "event_not_found")


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.nightly)])
def test_search_by_actor_action_target_and_time_combined(
    auditor: Client, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Each of the 31 combinations against what was written: by the API, and each third one by an export, too.

    The page has the combination of all. At night, each one is tried each way.
    """
    day = (clock.now() - timedelta(days=1)).date().isoformat()
    start = datetime.fromisoformat(f"{day}T09:30:00Z")
    written = []
    for number, (actor, action, target) in enumerate(
        product((ADA, SYSTEM), (Action.JOB_CREATED, Action.JOB_CANCELLED), (JOB, "job:other"))
    ):
        with monkeypatch.context() as patched:
            patched.setattr(clock, "now", lambda number=number: start + timedelta(minutes=number))
            written += write([event(target, actor=actor, action=action)])
    given = {
        "actor": "system",
        "action": "job.cancelled",
        "target": JOB,
        "from": f"{day}T09:31:00Z",
        "to": f"{day}T09:37:00Z",
    }
    browser = session_of(auditor.server, someone("admin"))
    asked_for = [dict(pairs) for size in range(1, 6) for pairs in combinations(given.items(), size)]
    for number, asked in enumerate(asked_for, 1):
        expected = [record.entry for record in written if _matches(record, asked)]
        assert expected
        by_api = [one["event_id"] for one in events(auditor, limit=100, **asked)]
        assert [entry for entry in by_api if entry in {record.entry for record in written}] == expected[::-1]
        if number % every == 0 or asked == given:
            exported = auditor.get("/audit/export", params={"from": day, "to": day, **asked}).text
            assert [json.loads(line)["entry"] for line in exported.splitlines()] == expected
        if every == 1 or asked == given:
            page = browser.get("/admin/audit/auditrecord/", params=_on_the_page(asked)).text
            found = re.findall(r"auditrecord/([^/]+)/change/", page)
            listed = dict.fromkeys(re.sub("_([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), key) for key in found)
            assert [key for key in listed if key in {record.entry for record in written}] == expected[::-1], asked


def _matches(record: AuditRecord, asked: dict[str, str]) -> bool:
    return (
        asked.get("actor", record.actor_kind) == record.actor_kind
        and asked.get("action", record.action) == record.action
        and asked.get("target", record.target) == record.target
        and asked.get("from", "") <= record.at[:19] + "Z" < asked.get("to", "9")
    )


def _on_the_page(asked: dict[str, str]) -> dict[str, str]:
    """The fields of the admin's form. It includes the last minute."""
    fields = {name: value for name, value in asked.items() if name not in ("from", "to")}
    if "from" in asked:
        fields |= {"first_day": asked["from"][:10], "first_time": "09:31"}
    if "to" in asked:
        fields |= {"last_day": asked["to"][:10], "last_time": "09:36"}
    return fields
