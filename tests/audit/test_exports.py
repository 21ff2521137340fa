"""Exports of the trail: streamed in pages, resumable, as JSON Lines and CSV, with our field names or OCSF's."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.audit.actions import Action
from apps.audit.canonical import canonical_bytes, canonical_record
from apps.audit.formats import Format
from apps.audit.models import AuditRecord
from apps.audit.selectors import trail
from apps.audit.selectors.trail import SETTLED_SECONDS, TrailSearch, trail_events, trail_page
from apps.audit.services import exports
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.csv_lines import csv_line
from tests.audit.trail import ADA, BUILDER, CI, STRANGER, event, whole, write
from tests.clients import Client, problem
from tests.conftest import person
from tests.metering import dynamodb_calls

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\ufeff=1",
    "＝1",
    "|calc",
    '=HYPERLINK("x")',
]


@pytest.fixture
def auditor(server: str) -> Client:
    return person(server, "auditor")


def later(seconds: int = SETTLED_SECONDS + 1) -> Any:
    return clock.shifted(timedelta(seconds=seconds))


def days_ago(days: int) -> str:
    return clock.timestamp(clock.now() - timedelta(days=days))[:10]


def some_days(days: int = 3, each: int = 20) -> list[AuditRecord]:
    """Events of the last days, in their order."""
    written = []
    for back in range(days, 0, -1):
        with clock.shifted(timedelta(days=-back)):
            written += write(
                event(f"job:{back}-{number}", detail={"n": number, "ref": "ü\n"}) for number in range(each)
            )
    return sorted(written, key=lambda record: record.entry)


def pages(client: Client, **query: Any) -> Iterator[Any]:
    """The answers of an export, by their links."""
    url: str | None = "/audit/export"
    params: dict[str, Any] | None = query
    while url:
        answer = client.get(url, params=params)
        assert answer.status_code == 200, answer.text
        yield answer
        link = re.fullmatch(r'<https?://[^/]+(/[^>]+)>; rel="next"', answer.headers.get("Link", ""))
        url, params = (link[1] if link else None), None


def exported(client: Client, **query: Any) -> str:
    return b"".join(page.content for page in pages(client, **query)).decode()


def test_an_export_has_every_event_once_oldest_first_in_its_canonical_form(auditor: Client) -> None:
    written = some_days(each=6)
    day = written[0].at[:10]
    lines = exported(auditor, limit=7, **{"from": day, "to": written[-1].at[:10]}).splitlines()
    assert lines == [canonical_bytes(canonical_record(record.serialize())).decode() for record in written]


def test_a_client_that_was_interrupted_goes_on_by_the_last_link_it_got(auditor: Client) -> None:
    written = some_days(days=1)
    day = written[0].at[:10]
    first = next(pages(auditor, limit=8, **{"from": day, "to": day}))
    url = first.links["next"]["url"]
    again = [auditor.get(url.partition(auditor.server)[2]).content for _ in range(2)]
    assert again[0] == again[1]
    entries = [json.loads(line)["entry"] for line in (first.content + again[0]).decode().splitlines()]
    assert entries == [record.entry for record in written[:16]]


def test_an_export_ends_where_no_further_event_can_come(auditor: Client) -> None:
    write([event("job:just-now")])
    answer = next(pages(auditor, **{"from": days_ago(1)}))
    assert "job:just-now" not in answer.text
    until = answer.headers["X-Export-Until"]
    with later():
        following = exported(auditor, **{"from": until})
    assert "job:just-now" in following


def test_pages_of_one_export_end_at_the_same_moment(auditor: Client) -> None:
    some_days(days=1)
    write([event("job:meanwhile")])
    found = pages(auditor, limit=5, **{"from": days_ago(1)})
    first = next(found)
    with later():
        rest = list(found)
    assert all("job:meanwhile" not in page.text for page in rest)
    assert {page.headers["X-Export-Until"] for page in (first, *rest)} == {first.headers["X-Export-Until"]}


def test_a_page_stays_below_the_limit_of_lambdas_answers(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    written = some_days(days=1)
    day = written[0].at[:10]
    monkeypatch.setattr(exports, "PAGE_BYTES", 1_500)
    found = list(pages(auditor, limit=5_000, **{"from": day, "to": day}))
    assert len(found) > 2
    assert all(len(page.content) <= 1_500 for page in found)
    assert len(b"".join(page.content for page in found).splitlines()) == len(written)


def test_an_export_of_years_without_events_takes_bounded_steps(
    auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "PAGE_DAYS", 3)
    since = days_ago(7)
    write([event("job:late")])
    with later():
        with dynamodb_calls() as counted:
            first = next(pages(auditor, **{"from": since}))
        assert counted.operations.count("Query") <= 3 * 8
        assert "Link" in first.headers
        assert "job:late" in exported(auditor, **{"from": since})


@pytest.mark.parametrize("schema", ["native", "ocsf"])
def test_all_pages_of_csv_are_one_file_with_one_header(auditor: Client, schema: str) -> None:
    written = some_days(days=1)
    day = written[0].at[:10]
    text = exported(auditor, format="csv", schema=schema, limit=6, **{"from": day, "to": day})
    rows = list(csv.DictReader(io.StringIO(text)))
    column = "event_id" if schema == "native" else "metadata.uid"
    assert [row[column] for row in rows] == [record.entry for record in written]
    assert len(text.splitlines()) == len(rows) + 1


@pytest.mark.parametrize("schema", ["native", "ocsf"])
@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str, schema: Any) -> None:
    actor = Actor("user", "x", text)
    record = event(text, actor=actor, result=text, detail={text: text})
    (row,) = csv.reader(io.StringIO(Format("csv", schema).line(record)))
    assert all(not cell.lstrip(" \ufeff").startswith(tuple("=+-@\t\r\n＝＋－＠|")) for cell in row)
    assert len(Format("csv", schema).line(record).splitlines()) == 1


def test_numbers_of_csv_stay_numbers() -> None:
    assert csv_line([-1, 2.5, None, "a,b", 'say "x"']) == '-1,2.5,,"a,b","say ""x"""\r\n'


def test_ocsf_names_each_event_by_its_class_and_activity() -> None:
    def shown(*args: Any, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Format("jsonl", "ocsf").line(event(*args, **more)))
        return found

    signed_in = shown(f"user:{ADA.id}", action=Action.USER_SIGNED_IN)
    assert (signed_in["class_uid"], signed_in["activity_id"], signed_in["type_uid"]) == (3002, 1, 300201)
    assert signed_in["user"] == {"uid": ADA.id}
    failed = shown("email:eve@x.org", actor=STRANGER, action=Action.USER_SIGN_IN_FAILED, result="refused")
    assert (failed["class_uid"], failed["status_id"], failed["user"]) == (3002, 2, {"email_addr": "eve@x.org"})
    saved = shown("pipeline:web", action=Action.PIPELINE_SAVED)
    assert (saved["class_name"], saved["activity_name"]) == ("Entity Management", "Update")
    assert saved["entity"] == {"uid": "web", "type": "pipeline"}
    revoked = shown(f"api_token:{CI.id}", action=Action.API_TOKEN_REVOKED)
    assert (revoked["class_uid"], revoked["activity_name"]) == (3004, "Delete")
    job = shown("job:1", actor=BUILDER, action=Action.JOB_FINISHED, result="failed", detail={"exit_code": 1})
    assert (job["class_uid"], job["category_uid"], job["status"], job["status_detail"]) == (
        6003,
        6,
        "Success",
        "failed",
    )
    assert job["api"] == {"operation": "job.finished"}
    assert job["resources"] == [{"uid": "1", "type": "job"}]
    assert job["unmapped"]["detail"] == {"exit_code": 1}


# What OCSF 1.3 requires of each event, and of each of the classes.
REQUIRED = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED_OF = {3002: {"user"}, 3004: {"entity"}, 6003: {"actor", "api", "src_endpoint"}}


@pytest.mark.parametrize("action", list(Action))
def test_ocsf_events_have_what_their_class_requires(action: Action) -> None:
    found = json.loads(Format("jsonl", "ocsf").line(event("user:x", action=action)))
    assert found.keys() >= REQUIRED | REQUIRED_OF[found["class_uid"]]
    assert found["metadata"].keys() >= {"product", "version"}
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]


def test_an_export_is_itself_recorded_once_however_many_pages_it_has(auditor: Client) -> None:
    some_days(days=1)
    exported(auditor, limit=5, target="job:1-1", format="csv")
    (recorded,) = whole(action=Action.AUDIT_EXPORTED)
    assert recorded.actor_kind == "token"
    assert {"format": "csv", "of_target": "job:1-1"}.items() <= recorded.detail.items()


def test_the_link_of_one_person_is_no_use_to_another_or_for_another_export(auditor: Client, admin: Client) -> None:
    some_days(days=1)
    url = next(pages(auditor, limit=5, **{"from": days_ago(1)})).links["next"]["url"].partition(auditor.server)[2]
    problem(admin.get(url), 400, "invalid_cursor")
    problem(auditor.get(f"{url}&target=job:1"), 400, "invalid_cursor")


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", "xml"), ("schema", "ecs"), ("limit", "5001"), ("from", "yesterday"), ("to", "2026-11-27T10:00:00")],
)
def test_an_invalid_parameter_is_refused_with_its_name(auditor: Client, field: str, value: str) -> None:
    answer = auditor.get("/audit/export", params={field: value})
    assert answer.status_code == 400, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_only_who_may_read_the_trail_exports_it(operator: Client) -> None:
    problem(operator.get("/audit/export"), 403, "forbidden")
    assert whole(action=Action.AUDIT_EXPORTED) == []


@pytest.mark.usefixtures("tables")
class TestCommand:
    """``manage.py audit_export``."""

    def test_the_file_has_what_the_trail_has(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        written = some_days()
        file = tmp_path / "audit.jsonl"
        call_command("audit_export", str(file), f"--from={written[0].at[:10]}")
        found = [json.loads(line)["entry"] for line in file.read_text().splitlines()]
        assert found == [record.entry for record in written]
        assert file.stat().st_mode & 0o777 == 0o600
        assert f"{len(written)} events" in capsys.readouterr().out

    @pytest.mark.parametrize("places", [3, pytest.param(200, marks=pytest.mark.nightly)])
    @pytest.mark.parametrize("form", [("jsonl", "native"), ("csv", "native"), ("jsonl", "ocsf"), ("csv", "ocsf")])
    def test_an_interrupted_export_is_resumed_at_any_byte(
        self, tmp_path: Path, form: tuple[str, str], places: int
    ) -> None:
        written = some_days(days=1, each=4)
        options = [f"--format={form[0]}", f"--schema={form[1]}"]
        options += [f"--from={written[0].at[:10]}", f"--to={written[-1].at[:10]}"]
        call_command("audit_export", str(tmp_path / "whole"), *options)
        content = (tmp_path / "whole").read_bytes()
        for size in sorted({*range(0, len(content), len(content) // places), len(content) - 1, len(content)}):
            file = tmp_path / f"part-{size}"
            file.write_bytes(content[:size])
            call_command("audit_export", str(file), "--resume", *options)
            assert file.read_bytes() == content

    def test_an_existing_file_is_not_overwritten(self, tmp_path: Path) -> None:
        file = tmp_path / "audit.jsonl"
        file.write_text("mine\n")
        with pytest.raises(CommandError, match="--resume"):
            call_command("audit_export", str(file))
        with pytest.raises(CommandError, match="no event"):
            call_command("audit_export", str(file), "--resume")
        assert file.read_text() == "mine\n"

    def test_it_shows_its_progress(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        some_days(days=1)
        monkeypatch.setattr("apps.audit.management.commands.audit_export._PROGRESS_SECONDS", 0)
        call_command("audit_export", str(tmp_path / "audit.csv"), "--format=csv", f"--from={days_ago(1)}")
        assert re.search(r"20 events, [\d,]+ a second, at 20", capsys.readouterr().err)

    def test_filters_and_times_are_those_of_the_search(self, tmp_path: Path) -> None:
        first, second = write([event("job:1"), event("job:1", actor=SYSTEM)])
        with later():
            call_command("audit_export", str(tmp_path / "a"), "--target=job:1", "--actor=system")
            call_command("audit_export", str(tmp_path / "b"), "--target=job:1", f"--to={second.at}")
        assert json.loads((tmp_path / "a").read_text())["entry"] == second.entry
        assert json.loads((tmp_path / "b").read_text())["entry"] == first.entry


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("rounds", [7, pytest.param(100, marks=pytest.mark.nightly)])
def test_reading_forwards_finds_what_reading_backwards_finds(rounds: int) -> None:
    for _ in range(rounds):
        write([event("job:1", actor=SYSTEM), event("job:2", actor=CI, action=Action.JOB_CANCELLED), event("job:1")])
    searches: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: {"target": "job:1"},
        lambda: {"actor": "system"},
        lambda: {"action": Action.JOB_CANCELLED},
        lambda: {"target": "job:1", "actor": f"user:{ADA.id}"},
        lambda: {"actor": f"user:{ADA.id}", "action": "job.cancelled"},
    ]
    for search in searches:
        found = trail_events(TrailSearch(**search()), after=days_ago(1), until=clock.timestamp(clock.now()))
        forwards = [record.entry for record in found]
        place: str | None = days_ago(1)
        paged = []
        while place:
            page = trail_page(TrailSearch(**search()), after=place, until=clock.timestamp(clock.now()), limit=7)
            paged += [record.entry for record in page.records]
            place = page.next
        assert paged == forwards
        assert forwards == [record.entry for record in whole(**search())][::-1]
        assert forwards
