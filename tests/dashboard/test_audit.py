"""The pages of the audit trail: its search, and one event."""

import html
import re
from datetime import timedelta
from urllib.parse import quote, urlencode

import pytest

from apps.accounts.services import user_disable
from apps.audit.models import AuditRecord
from apps.audit.selectors import audit_list
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from tests.audit.sealed import copies_clear, seal_now
from tests.audit.trail import ADA, event, write
from tests.clients import Client
from tests.conftest import ADMIN, someone
from tests.dashboard.conftest import SignedIn
from tests.dashboard.scene import Scene
from tests.dashboard.test_overview import words

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def auditor(signed_in: SignedIn) -> Client:
    return signed_in("auditor")


def shown(page: str) -> list[str]:
    """The rows of the table, in words."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [words(row) for row in body.split("</tr>")[:-1]]


def search(auditor: Client, **asked: str) -> str:
    return auditor.get(f"/dashboard/audit?{urlencode(asked)}").text


def test_the_trail_is_listed_newest_first_and_each_event_leads_to_its_page(auditor: Client, scene: Scene) -> None:
    scene.pipeline()
    job_id = scene.job()
    page = auditor.get("/dashboard/audit").text
    first, second = shown(page)[:2]
    assert "Ada Job created" in first
    assert f"job:{job_id}" in first
    assert "Pipeline saved pipeline:self" in second
    address = html.unescape(re.findall(r'href="(/dashboard/audit/[^"]+)"', page)[0])
    text = words(auditor.get(address).text)
    assert f"What job:{job_id}" in text
    assert "Not sealed yet" in text
    assert f'href="/dashboard/jobs/{job_id}"' in auditor.get(address).text


def test_a_search_combines_who_what_and_which_act(auditor: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.pipeline("other")
    scene.agent("build-07")
    assert len(shown(search(auditor, target="pipeline:other"))) == 1
    (saved, _) = shown(search(auditor, action="pipeline.saved"))
    assert "pipeline:other" in saved
    assert len(shown(search(auditor, action="pipeline.saved", target="pipeline:self"))) == 1
    assert "Agent enrolled" in " ".join(shown(search(auditor, actor="build-07")))
    disabled = someone("operator")
    user_disable(user_id=str(disabled.user_id), actor=ADMIN)
    write([event("job:1", actor=Actor("user", str(disabled.user_id), "their act"))])
    (own,) = shown(search(auditor, actor=str(disabled.email).upper()))
    assert "their act" in own
    assert shown(search(auditor, first="2026-01-01", last="2026-01-02")) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"actor": "strange@example.com"}, "No user has this e-mail address"),
        ({"first": "2026-11-02", "last": "2026-11-01"}, "must not be after the last one"),
        ({"first": "tomorrow"}, "Enter a valid date"),
        ({"action": "cake.eaten"}, "not one of the available choices"),
        ({"target": "t" * 201}, "at most 200 characters"),
    ],
)
def test_a_wrong_search_is_explained_at_its_field(auditor: Client, asked: dict[str, str], said: str) -> None:
    answer = auditor.get(f"/dashboard/audit?{urlencode(asked)}")
    assert answer.status_code == 400
    assert said in html.unescape(answer.text)


def test_the_list_goes_on_with_the_same_search(auditor: Client) -> None:
    write(event(f"job:{number}") for number in range(60))
    first = search(auditor, actor=f"user:{ADA.id}")
    following = re.search(r'id="next-page" href="([^"]+)"', first)
    assert following
    second = auditor.get(html.unescape(following[1]).replace("&amp;", "&")).text
    assert (len(shown(first)), len(shown(second))) == (50, 10)
    assert set(shown(first)) & set(shown(second)) == set()


def test_what_others_have_written_is_text(auditor: Client) -> None:
    (record,) = write([event(f"pipeline:{HOSTILE}", detail={HOSTILE: HOSTILE})])
    for page in (search(auditor, target=f"pipeline:{HOSTILE}"), auditor.get(event_address(record)).text):
        assert HOSTILE not in page
        assert html.escape(HOSTILE) in page


def event_address(record: AuditRecord) -> str:
    return f"/dashboard/audit/{quote(record.entry, safe='')}"


def test_a_sealed_event_names_its_seal_and_gives_its_proof(noon: None, auditor: Client) -> None:
    copies_clear()
    (record,) = write([event("job:1")])
    seal_now()
    page = auditor.get(event_address(record)).text
    assert "Seal 1 of" in words(page)
    proof = re.search(r'id="proof" href="([^"]+)"', page)
    assert proof
    assert auditor.get(html.unescape(proof[1])).json()["record"]["target"] == "job:1"
    assert "by seal 1. It was never checked" in words(auditor.get("/dashboard/audit").text)


@pytest.mark.parametrize("entry", ["nothing", "2026-11-27T00:00:00.000000Z#01kb0000000000000000000000", "%00", "é"])
def test_an_event_that_does_not_exist_is_not_found(auditor: Client, entry: str) -> None:
    assert auditor.get(f"/dashboard/audit/{quote(entry, safe='%')}").status_code == 404


def test_the_search_is_exported_as_it_is_shown(auditor: Client, scene: Scene) -> None:
    # What is younger than two minutes may still be written, and is in the next export.
    with clock.shifted(timedelta(minutes=-5)):
        scene.pipeline()
        scene.pipeline("other")
    link = re.search(r'id="export" href="([^"]+)"', search(auditor, target="pipeline:other"))
    assert link
    lines = auditor.get(html.unescape(link[1])).text.splitlines()
    assert len(lines) == 2
    assert "pipeline:other" in lines[1]
    (exported, *_) = audit_list(day=f"{clock.now():%Y-%m-%d}").records
    assert exported.action == "audit.exported"
