"""The audit trail in the admin: searched by actor, target, action and day."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.contrib.admin.utils import quote

from apps.accounts.selectors import user_by_email
from apps.agents.models import Agent, FleetCounter
from apps.audit.actions import Action
from apps.audit.models import AuditRecord
from apps.audit.services.verifications import verification_record
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.work import Work, at_work
from controlplane.nosql.listing import search_key
from tests.admin.conftest import Browser, errors, rows
from tests.audit.sealed import copies_clear, sealed_trail, verified
from tests.audit.test_verification import put, stored
from tests.audit.trail import STRANGER, event, write
from tests.dashboard.scene import Scene
from tests.metering import dynamodb_calls

TRAIL = "/admin/audit/auditrecord/"
JOB = "job:01kjob0000000000000000000a"


@pytest.fixture
def auditor(sign_in: Callable[[str], Browser]) -> Browser:
    return sign_in("auditor")


def found(auditor: Browser, **search: str) -> list[str]:
    return rows(auditor.page(TRAIL, params=search))


def test_the_last_events_are_on_the_first_page(auditor: Browser, scene: Scene) -> None:
    write([event(JOB)])
    first, second = found(auditor)[:2]
    assert "Ada Lovelace job.created job:01kjob" in first
    assert "user.signed_in" in second


def test_a_person_is_searched_for_by_e_mail_address(auditor: Browser) -> None:
    user_id = user_by_email("auditor@example.com").user_id
    owned = Actor("token", "01ktoken", "ci (auditor@example.com)", owner_id=user_id)
    write([event(JOB), event(JOB, actor=owned)])
    lines = found(auditor, actor="Auditor@example.com")
    assert "ci (auditor@example.com) job.created" in lines[0]
    assert "Auditor user.signed_in" in lines[1]
    assert len(lines) == 2


def test_an_agent_is_searched_for_by_name_and_by_id(auditor: Browser) -> None:
    for number, name in enumerate(("builder", "Builder", "tester")):
        key = f"01kagent0000000000000000{number:02}"
        Agent(
            key, name=name, name_key=search_key(name), region="eu", slots=1, status="healthy", created_at="2026"
        ).save()
        write([event(f"job:{number}", actor=Actor("agent", key, name))])
    FleetCounter(key="eu#healthy", agents=3).save()
    assert "job:2" in found(auditor, actor="Tester")[0]
    assert "job:0" in found(auditor, actor="01kagent000000000000000000")[0]
    page = auditor.page(TRAIL, params={"actor": "builder"})
    assert "Several have this name. Search for one of agent:01kagent000000000000000000, agent:01k" in errors(page)
    assert rows(page) == []


def test_the_system_and_strangers_are_actors_too(auditor: Browser) -> None:
    write([event(JOB, actor=SYSTEM), event("email:eve@x.org", actor=STRANGER, action=Action.USER_SIGN_IN_FAILED)])
    assert [line for line in found(auditor, actor="system") if JOB in line]
    assert len(found(auditor, actor="user:unknown")) == 1
    assert len(found(auditor, target="email:eve@x.org")) == 1


def test_target_action_and_days_are_combined(auditor: Browser) -> None:
    (written, _) = write([event(JOB), event(JOB, action=Action.JOB_CANCELLED)])
    day = written.at[:10]
    assert len(found(auditor, target=JOB)) == 2
    assert len(found(auditor, target=JOB, action="job.cancelled", first_day=day, last_day=day)) == 1
    assert found(auditor, target=JOB, last_day="2026-01-31") == []
    assert len(found(auditor, action="job.created")) == 1


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"actor": "nowhere@example.com"}, "No user has this e-mail address, and no agent has this name."),
        ({"action": "job.invented"}, "job.invented is not one of the available choices"),
        ({"first_day": "soon"}, "Enter a valid date."),
        ({"first_day": "2026-11-22", "last_day": "2026-11-21"}, "must not be after"),
        ({"target": "x" * 201}, "at most 200 characters"),
    ],
)
def test_an_invalid_search_is_explained_and_lists_nothing(
    auditor: Browser, search: dict[str, str], message: str
) -> None:
    page = auditor.page(TRAIL, params=search)
    assert message in errors(page)
    assert rows(page) == []


def test_the_pages_of_a_search_keep_it(auditor: Browser) -> None:
    write(event(JOB) for _ in range(60))
    first = auditor.page(TRAIL, params={"target": JOB})
    link = re.search(r'href="(\?[^"]+)" rel="next"', first)
    second = auditor.page(TRAIL + unescape(link[1]))
    assert (len(rows(first)), len(rows(second))) == (50, 10)
    back = re.search(r'href="(\?[^"]+)" rel="prev"', second)
    assert rows(auditor.page(TRAIL + unescape(back[1]))) == rows(first)


def test_actors_and_targets_link_to_their_events_and_each_event_has_a_page(auditor: Browser) -> None:
    write(event(f"job:{number}", actor=SYSTEM) for number in range(20))
    page = auditor.page(TRAIL, params={"action": "job.created"})
    assert 'href="?actor=system"' in page
    assert 'href="?target=job%3A7"' in page
    paths = re.findall(rf'href="({TRAIL}[^"?]+/change/)', page)
    assert len(paths) == 20
    assert all("control plane" in auditor.page(unescape(path)) for path in paths)


def test_a_page_of_the_trail_asks_for_its_shards_once(auditor: Browser) -> None:
    write(event(JOB) for _ in range(60))
    with dynamodb_calls() as counted:
        auditor.page(TRAIL, params={"action": "job.created"})
    assert counted.operations.count("Query") == 8


def test_the_page_says_up_to_when_the_trail_is_sealed_and_what_the_last_check_found(auditor: Browser) -> None:
    copies_clear()
    assert "The trail is not sealed yet." in auditor.page(TRAIL)
    written = sealed_trail((2, 1))
    assert "by seal 2. It was never checked: run manage.py audit_verify." in auditor.page(TRAIL)
    verification_record(verified(), is_whole=True)
    page = auditor.page(TRAIL)
    assert re.search(r"sealed up to 20\d\d-\d\d-\d\d \d\d:\d\d UTC, by seal 2\.", page)
    assert "found it unchanged." in page
    put(AuditRecord, {**stored(written[0]), "result": {"S": "edited"}})
    verification_record(verified(), is_whole=True)
    assert "FOUND THAT IT WAS CHANGED." in auditor.page(TRAIL)


def test_an_events_page_shows_its_seal_and_where_it_came_from(auditor: Browser) -> None:
    copies_clear()
    (record, _, _) = sealed_trail((2, 1))
    page = auditor.page(f"{TRAIL}{quote(record.entry)}/change/")
    assert re.search(r"seal 1, sealed 20\d\d-[^,]+ UTC, event 1 of the trail", page)
    work = Work(request_id="JKJaXmPLvHcESHA=", route="/jobs", client=lambda: "2001:db8::7")
    work.session = "01ksession0000000000000000"
    with at_work(work):
        (fresh,) = write([event(JOB)])
    page = auditor.page(f"{TRAIL}{quote(fresh.entry)}/change/")
    assert all(text in page for text in ("not sealed yet", "JKJaXmPLvHcESHA=", "2001:db8::7", work.session))


def test_the_trail_cannot_be_written(auditor: Browser) -> None:
    assert auditor.get(f"{TRAIL}add/").status_code == 403
