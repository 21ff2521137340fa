"""Compliance reports: as page, CSV and HTML to print, of a period, reproducible, with a foot; and their sign-off."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import settings

from apps.accounts.services import api_token_create, invitation_accept_password, invitation_create, user_update
from apps.accounts.services.api_tokens import api_token_revoke
from apps.agents.services import agent_key_rotate
from apps.audit.actions import Action
from apps.audit.selectors import audit_list, audit_search
from apps.audit.selectors.seals import seal_find
from apps.audit.services.holds import hold_place, hold_release
from apps.dashboard.selectors import reports
from apps.dashboard.selectors.report_kinds import KINDS
from apps.dashboard.selectors.reports import period_of, report_make
from apps.jobs.services import job_cancel
from apps.jobs.services.approvals import deployment_reject
from apps.secrets.services import secret_change, secret_create, secret_delete, secret_set
from apps.secrets.services.rotation_plans import rotation_configure
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import InvalidInput
from tests.audit.sealed import copies_clear, seal_now
from tests.audit.trail import ADA, BUILDER, STRANGER, event, write
from tests.clients import Client
from tests.conftest import ADMIN, OPERATOR, PASSWORD, someone
from tests.dashboard.conftest import SignedIn, csrf_token
from tests.dashboard.reported import days_ago, made, report
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import COMMIT, STEPS, Worker, graph_pipeline
from tests.metering import dynamodb_calls
from tests.signing import enrolled

ALL = sorted(KINDS)


@pytest.fixture
def auditor(signed_in: SignedIn) -> Client:
    return signed_in("auditor")


@pytest.fixture
def a_day_later() -> Iterator[None]:
    """What the test has done is in a period that is over."""
    with clock.shifted(timedelta(days=1)):
        yield


def shown(page: str) -> list[list[str]]:
    """The cells of the table of a page."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("<tr>")[1:]]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in cells]


def some_acts() -> None:
    """An event for each report."""
    write(
        [
            event("pipeline:web", action=Action.PIPELINE_SAVED),
            event("email:eve@x.org", actor=STRANGER, action=Action.USER_SIGN_IN_FAILED, result="refused"),
            event("environment:prod", action=Action.DEPLOYMENT_STARTED),
            event("secret:TOKEN", action=Action.SECRET_CREATED),
        ]
    )


def test_the_access_review_has_users_roles_tokens_and_their_last_use(tables: None) -> None:
    ada = someone("operator")
    token, secret = api_token_create(user=ada, name="ci", permissions=["jobs.read"], actor=SYSTEM)
    old, _ = api_token_create(user=ada, name="old", actor=SYSTEM)
    api_token_revoke(token=old, actor=SYSTEM)
    gone = someone("viewer")
    user_update(
        user_id=gone.user_id, name="Viewer", role="auditor", is_active=False, revision=int(gone.revision), actor=ADMIN
    )
    write([event("job:1", actor=ADA)])
    found = {(row["Kind"], row["Name"]): row for row in made("access")}
    assert found["user", "operator@example.com"]["Access"] == "operator"
    assert found["user", "operator@example.com"]["State"] == "active"
    assert found["user", "viewer@example.com"]["Access"] == "auditor"
    assert found["user", "viewer@example.com"]["State"] == "disabled"
    ci = found["API token", "ci"]
    assert (ci["Id"], ci["Owner"], ci["Access"], ci["State"]) == (
        token.token_id,
        "operator@example.com",
        "jobs.read",
        "active",
    )
    assert found["API token", "old"]["State"] == "revoked"
    assert found["API token", "old"]["Ended"]
    assert secret not in str(found)


def test_the_access_review_is_of_the_end_of_its_period_whatever_came_later(tables: None) -> None:
    with clock.shifted(timedelta(days=-5)):
        viewer = someone("viewer")
        day = clock.now().date()
    period = period_of(day, day)
    before = report_make(KINDS["access"], period)
    user_update(
        user_id=viewer.user_id, name="Viewer", role="admin", is_active=True, revision=int(viewer.revision), actor=ADMIN
    )
    someone("operator")
    after = report_make(KINDS["access"], period)
    assert [row[2] for row in before.rows] == ["viewer@example.com"]
    assert after.digest == before.digest


def test_the_report_of_agents_has_their_keys_and_ages(server: str) -> None:
    agent = enrolled(server)
    (row,) = made("agents")
    assert row["Id"] == agent.agent_id
    assert (row["Key"], row["Key age in days"], row["Status"]) == ("from enrolment", 0, "healthy")
    credentials = agent_key_rotate(agent_id=agent.agent_id, actor=ADMIN)
    (row,) = made("agents")
    assert row["Key"] == credentials.key_id
    assert row["Last heartbeat"]


def test_the_report_of_failed_sign_ins_has_each_with_its_address(tables: None, outsider: Client) -> None:
    form = {
        "email": "eve@example.com",
        "password": "wrong",
        "csrfmiddlewaretoken": csrf_token(outsider.get("/signin").text),
    }
    assert outsider.post("/signin", data=form).status_code == 401
    write([event("email:x@example.com", actor=STRANGER, action=Action.USER_SIGNED_IN)])
    (row,) = made("sign-ins")
    assert (row["Who"], row["Address"], row["Provider"]) == ("eve@example.com", "127.0.0.1", "password")


def test_the_report_of_settings_has_who_changed_what(tables: None) -> None:
    write(
        [
            event("pipeline:web", action=Action.PIPELINE_SAVED, detail={"revision": 2}),
            event("agent:x", action=Action.AGENT_CONFIGURED, detail={"slots": 4}),
            event("job:x", action=Action.JOB_CREATED),
            event("secret:TOKEN", action=Action.SECRET_VERSION_ADDED, detail={"version": 2, "rotation": "r"}),
        ]
    )
    assert [(row["Who"], row["Action"], row["Target"], row["Change"]) for row in made("settings")] == [
        ("Ada Lovelace", "pipeline.saved", "pipeline:web", "revision 2"),
        ("Ada Lovelace", "agent.configured", "agent:x", "slots 4"),
    ]


def test_the_report_of_settings_has_secrets_their_rotation_and_legal_holds(tables: None) -> None:
    secret_create(actor=OPERATOR, name="TOKEN", value="a long enough value")
    secret_change(actor=OPERATOR, secret_id="TOKEN", owner="ops@example.com")
    rotation_configure(actor=ADMIN, secret_id="TOKEN", rotator="generated", schedule={"every_days": 30, "at": "03:00"})
    secret_set(actor=OPERATOR, secret_id="TOKEN", value="another long enough value")
    secret_delete(actor=OPERATOR, secret_id="TOKEN")
    hold = hold_place(actor=ADMIN, reason="case 7")
    hold_release(actor=ADMIN, hold_id=str(hold.hold_id))
    rows = made("settings")
    assert [row["Action"] for row in rows] == [
        *("secret.created", "secret.changed", "secret.rotation_configured", "secret.version_added", "secret.deleted"),
        *("audit.hold_placed", "audit.hold_released"),
    ]
    assert "owner operator → ops@example.com" in rows[1]["Change"]
    assert "schedule every 30 days, 03:00 (UTC)" in rows[2]["Change"]
    assert "reason case 7" in rows[5]["Change"]
    assert "long enough value" not in str(rows)


def test_the_foot_has_the_seal_of_the_last_event_of_the_period_also_later(tables: None) -> None:
    copies_clear()
    with days_ago(1):
        write([event()])
        assert "no event up to the end of the period is sealed" in report("agents", 0).seal
        assert seal_now() == 1
    with days_ago(1, hour=13):
        write([event()])
        assert seal_now() == 1
    seal = seal_find(2)
    assert seal
    foot = report("agents", 1, until=1).seal
    assert foot.startswith("2 of ")
    assert foot.endswith(f"after 2 events in all, digest {seal.statement.digest}")
    write([event()])
    assert "later events of the period have no seal yet" in report("agents", 0).seal
    assert seal_now() == 1
    assert report("agents", 1, until=1).seal == foot
    copies_clear()


@pytest.mark.parametrize("name", ["access", "agents", "rotations"])
def test_what_the_trail_no_longer_has_is_named_beside_the_report(server: str, name: str) -> None:
    enrolled(server)
    someone("viewer")
    secret_create(actor=OPERATOR, name="TOKEN", value="a long enough value")
    for record in audit_list(day=clock.now().date().isoformat()).records:
        record.delete()
    found = report(name, 0)
    names = {"access": "viewer@example.com", "agents": "build", "rotations": "TOKEN"}
    assert found.rows == [], found.contents.notes
    assert f"so they are left out: {names[name]}" in found.contents.notes[-1]


def test_a_job_of_an_environment_is_in_the_report_of_deployments(agent: Actor) -> None:
    graph_pipeline()
    worker = Worker(agent)
    worker.run(f"jobs: {{build: {{{STEPS}}}, ship: {{needs: build, environment: production, {STEPS}}}}}")
    worker.finish(worker.take())
    job = worker.take()
    (row,) = made("deployments")
    assert (row["Environment"], row["Pipeline"], row["Commit"], row["Agent"], row["Job"]) == (
        *("production", "graph", COMMIT, agent.name, job.job_id),
    )
    assert row["Requested by"] == OPERATOR.name
    worker.start(str(job.job_id))
    assert len(made("deployments")) == 1


def test_the_report_of_deployments_has_who_deployed_what_where(tables: None) -> None:
    detail = {"pipeline": "web", "git_ref": "main", "commit": "c0ffee", "requested_by": "user:ada", "job_id": "1"}
    write([event("environment:production", actor=BUILDER, action=Action.DEPLOYMENT_STARTED, detail=detail)])
    (row,) = made("deployments")
    assert (row["Environment"], row["Pipeline"], row["Ref"], row["Commit"], row["Requested by"]) == (
        *("production", "web", "main", "c0ffee", "user:ada"),
    )
    assert row["Approved by"] is None


def test_the_report_of_deployments_has_how_each_ended_and_who_rejected(agent: Actor) -> None:
    worker = deployer()
    done = worker.run(DEPLOYS)
    worker.finish(worker.take())
    failed = worker.run(DEPLOYS)
    worker.finish(worker.take(), exit_code=1)
    running = worker.run(DEPLOYS)
    worker.take()
    environment("staging", approvals=1, approver_roles=["admin"])
    to_staging = DEPLOYS.replace("production", "staging")
    rejected, cancelled = worker.run(to_staging), worker.run(to_staging)
    eve = user("eve", role="admin")
    deployment_reject(actor=acting(eve), deployment_id=str(deployment_of(rejected).deployment_id), comment="no")
    job_cancel(actor=OPERATOR, job_id=str(deployment_of(cancelled).deployment_id))
    rows = made("deployments")
    assert [(row["Job"], row["Environment"], row["Result"]) for row in rows] == [
        (deployment_of(done).deployment_id, "production", "completed"),
        (deployment_of(failed).deployment_id, "production", "failed"),
        (deployment_of(running).deployment_id, "production", "not ended"),
        (deployment_of(rejected).deployment_id, "staging", "rejected"),
        (deployment_of(cancelled).deployment_id, "staging", "cancelled"),
    ]
    assert [row["Rejected by"] for row in rows] == [None, None, None, "Eve", None]
    assert [row["Agent"] for row in rows] == [worker.agent.name] * 3 + [None] * 2
    assert {row["Requested by"] for row in rows} == {OPERATOR.name}


def test_a_deployment_that_ends_after_the_period_has_not_ended_in_its_report_whatever_comes_later(
    tables: None,
) -> None:
    started, ended = {"job_id": "1", "pipeline": "web"}, {"deployment_id": "1", "pipeline": "web"}
    with days_ago(2):
        write([event("environment:production", action=Action.DEPLOYMENT_STARTED, detail=started)])
    before = report("deployments", 2, until=2)
    with days_ago(1):
        end = event("environment:production", action=Action.DEPLOYMENT_FINISHED, detail=ended, result="completed")
        write([end])
    after = report("deployments", 2, until=2)
    assert ([row[7] for row in after.rows], after.digest) == (["not ended"], before.digest)
    (row,) = made("deployments", 1, until=1)
    assert (row["Job"], row["Result"]) == ("1", "completed")


def test_the_access_review_says_who_invited_a_user(tables: None) -> None:
    inviter = acting(someone("admin"))
    invitation, _ = invitation_create(email="eve@example.com", role="viewer", actor=inviter)
    invitation_accept_password(invitation=invitation, name="Eve", password=PASSWORD)
    someone("operator")
    assert {row["Name"]: row["Created by"] for row in made("access")} == {
        "admin@example.com": "control plane (system)",
        "eve@example.com": inviter.name,
        "operator@example.com": "control plane (system)",
    }


def test_where_the_last_use_of_a_token_is_shown_it_says_how_exact_it_is(signed_in: SignedIn, auditor: Client) -> None:
    admin = signed_in("admin")
    api_token_create(user=someone("operator"), name="ci", actor=SYSTEM)
    assert "A token's last use is to the hour" in unescape(auditor.get("/dashboard/reports/access").text)
    assert "last used (to the hour)" in admin.get("/admin/accounts/apitoken/").text.lower()
    form = {"name": "x", "days": "7", "scope": "all"}
    token = csrf_token(admin.get("/account/tokens").text)
    page = admin.post("/account/tokens", data={**form, "csrfmiddlewaretoken": token})
    assert "Last used (to the hour)" in page.text


def test_the_report_of_settings_has_environments_connections_notifications_and_schedules(tables: None) -> None:
    parts = ("connection", "environment", "notification_rule", "notification_target", "schedule")
    actions = [Action(f"{part}.{act}") for part in parts for act in ("created", "changed", "deleted")]
    actions += [Action.SCHEDULE_PAUSED, Action.SCHEDULE_RESUMED, Action.CONNECTION_WEBHOOK_SECRET_ROTATED]
    actions += [Action.NOTIFICATION_TARGET_SECRET_ROTATED, Action.CONNECTION_INSTALLATION_CHANGED]
    write(event("x:1", action=action) for action in actions)
    assert [row["Action"] for row in made("settings")] == actions


def test_the_report_of_settings_leaves_out_what_is_empty(tables: None) -> None:
    write([event("pipeline:web", action=Action.PIPELINE_SAVED, detail={"labels": "", "badge": "private"})])
    assert [row["Change"] for row in made("settings")] == ["badge private"]


def test_each_report_is_a_page_a_csv_and_a_page_to_print_with_the_same_rows_and_foot(auditor: Client) -> None:
    enrolled(auditor.server)
    some_acts()
    day = clock.now().date().isoformat()
    with clock.shifted(timedelta(days=1)):
        browser = again(auditor)
        for name in ALL:
            query = {"from": day, "to": day}
            page = browser.get(f"/dashboard/reports/{name}", params=query)
            sheet = browser.get(f"/dashboard/reports/{name}/print", params=query)
            text = browser.get(f"/dashboard/reports/{name}/csv", params=query)
            assert [answer.status_code for answer in (page, sheet, text)] == [200, 200, 200], name
            rows = list(csv.reader(io.StringIO(text.text)))
            body, foot = rows[1 : rows.index([])], dict(row for row in rows[rows.index([]) + 1 :])
            assert body, name
            assert len(shown(page.text)) == len(shown(sheet.text)) == len(body), name
            digest = foot["# SHA-256"]
            assert re.fullmatch("[0-9a-f]{64}", digest)
            for answer in (page, sheet):
                assert digest in answer.text, name
                assert f"{day} to {day}, days in UTC" in answer.text
                assert "stage test" in answer.text
                assert foot["# Seal"] in answer.text, name
            assert "<script" not in sheet.text
            assert "attachment" in text.headers["Content-Disposition"]


@pytest.mark.parametrize("name", ALL)
def test_the_same_period_gives_the_same_report_later(tables: None, name: str) -> None:
    write(
        [
            event("pipeline:web", action=Action.PIPELINE_SAVED),
            event("environment:prod", action=Action.DEPLOYMENT_STARTED),
        ]
    )
    today = clock.now().date()
    digests = set()
    for days in (1, 300):
        with clock.shifted(timedelta(days=days)):
            write([event("pipeline:web", action=Action.PIPELINE_SAVED)])
            digests.add(report_make(KINDS[name], period_of(today, today)).digest)
    assert len(digests) == 1


def test_failed_sign_ins_are_drawn_by_day_for_a_period_of_up_to_31_days(auditor: Client) -> None:
    some_acts()
    today = clock.now().date()
    for days, charts in ((30, 1), (31, 0)):
        query = {"from": str(today - timedelta(days=days)), "to": str(today)}
        with clock.shifted(timedelta(minutes=3)):
            page = auditor.get("/dashboard/reports/sign-ins", params=query).text
        assert page.count('<svg class="chart') == charts
        assert page.count('class="chart-failed" x=') == charts
        assert "eve@x.org" in page
    assert '<svg class="chart' not in auditor.get("/dashboard/reports/access").text


def test_an_empty_report_up_to_yesterday_leads_to_the_one_up_to_today(auditor: Client) -> None:
    today = clock.now().date()
    page = auditor.get("/dashboard/reports/sign-ins").text
    query = f"from={today - timedelta(days=29)}&amp;to={today}"
    assert f'href="/dashboard/reports/sign-ins?{query}">Show the period up to today</a>' in page
    before = {"to": str(today - timedelta(days=2))}
    assert "Nothing in this period." in auditor.get("/dashboard/reports/sign-ins", params=before).text


def test_a_period_that_goes_on_says_so_and_cannot_be_signed_off(auditor: Client) -> None:
    day = clock.now().date().isoformat()
    page = auditor.get("/dashboard/reports/access", params={"from": day, "to": day})
    assert "it has not ended" in page.text
    assert "can be signed off when its period is over" in page.text
    form = {"from": day, "to": day, "digest": "x", "csrfmiddlewaretoken": csrf_token(page.text)}
    assert auditor.post("/dashboard/reports/access/sign-off", data=form).status_code == 409


def test_an_impossible_period_is_explained_beside_the_form(auditor: Client) -> None:
    for query, message in (
        ({"from": "2026-11-02", "to": "2026-11-01"}, "must not be after the day in “to”"),
        ({"from": "2024-01-01", "to": "2026-11-01"}, "at most 366 days"),
        ({"from": "soon"}, "must be a day"),
        ({"from": "2099-01-01", "to": "2099-01-02"}, "must not be in the future"),
    ):
        answer = auditor.get("/dashboard/reports/access", params=query)
        assert answer.status_code == 400
        assert message in unescape(answer.text)
        assert 'id="period-from"' in answer.text


def test_a_period_with_too_many_events_is_refused_with_a_clear_message_and_bounded_reads(
    tables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_EVENTS", 30)
    monkeypatch.setattr(reports, "READ_AT_ONCE", 20)
    write(event("email:x@y.z", actor=STRANGER, action=Action.USER_SIGN_IN_FAILED) for _ in range(100))
    with dynamodb_calls() as counted, pytest.raises(InvalidInput, match="audit_export"):
        made("sign-ins")
    assert counted.calls < 30


def signed_off() -> list[Any]:
    return audit_search(target="report:access", action=Action.REPORT_SIGNED_OFF).records


def test_an_access_review_is_signed_off_which_is_recorded_and_shown(auditor: Client) -> None:
    day = clock.now().date().isoformat()
    with clock.shifted(timedelta(days=1)):
        auditor = again(auditor)
        query = {"from": day, "to": day}
        page = auditor.get("/dashboard/reports/access", params=query).text
        assert "Not signed off yet" in page
        digest = re.search(r'name="digest" value="(\w+)"', page)[1]
        form = {**query, "digest": digest, "comment": "all as planned", "csrfmiddlewaretoken": csrf_token(page)}
        for _ in range(2):
            answer = auditor.post("/dashboard/reports/access/sign-off", data=form)
            assert answer.headers["Location"] == f"/dashboard/reports/access?from={day}&to={day}"
        (record,) = signed_off()
        assert record.actor_name == "Auditor"
        assert record.detail == {"from": day, "to": day, "sha256": digest, "rows": 1, "comment": "all as planned"}
        after = auditor.get("/dashboard/reports/access", params=query).text
        assert "all as planned" in after
        assert "This content" in after
        assert "all as planned" in auditor.get("/dashboard/reports/access/print", params=query).text


def again(browser: Client) -> Client:
    """The browser, signed in anew: its session has ended by then."""
    browser.session.cookies.clear()
    form = {"email": "auditor@example.com", "password": "a long enough password"}
    browser.post("/signin", data={**form, "csrfmiddlewaretoken": csrf_token(browser.get("/signin").text)})
    return browser


def test_what_the_reviewer_has_not_seen_is_not_signed_off(auditor: Client) -> None:
    day = clock.now().date().isoformat()
    with clock.shifted(timedelta(days=1)):
        auditor = again(auditor)
        page = auditor.get("/dashboard/reports/access", params={"from": day, "to": day}).text
        form = {"from": day, "to": day, "digest": "0" * 64, "csrfmiddlewaretoken": csrf_token(page)}
        assert auditor.post("/dashboard/reports/access/sign-off", data=form).status_code == 409
        form["comment"] = "x" * 201
        form["digest"] = re.search(r'name="digest" value="(\w+)"', page)[1]
        assert auditor.post("/dashboard/reports/access/sign-off", data=form).status_code == 400
        assert auditor.post("/dashboard/reports/agents/sign-off", data=form).status_code == 404
    assert signed_off() == []


def test_reports_are_for_those_who_may_read_the_trail(viewer: Client, signed_in: Callable[[str], Client]) -> None:
    for path in ("/dashboard/reports", "/dashboard/reports/access", "/dashboard/reports/access/csv"):
        assert viewer.get(path).status_code == 403
    assert "/dashboard/audit" not in viewer.get("/dashboard/").text
    auditor = signed_in("auditor")
    assert "/dashboard/audit" in auditor.get("/dashboard/").text
    assert "/dashboard/reports" in auditor.get("/dashboard/audit").text


def test_every_report_is_documented() -> None:
    text = (settings.BASE_DIR / "docs" / "compliance.md").read_text()
    assert [kind.title for kind in KINDS.values() if f"| {kind.title} |" not in text] == []


def test_there_is_no_other_report(auditor: Client) -> None:
    assert auditor.get("/dashboard/reports/invented").status_code == 404


def test_a_formula_in_a_report_stays_text(auditor: Client) -> None:
    write([event("pipeline:=1+1", action=Action.PIPELINE_SAVED, detail={"x": "=1"}, actor=ADA)])
    write([event("pipeline:a", action=Action.PIPELINE_SAVED, result="=cmd()")])
    today = clock.now().date().isoformat()
    with clock.shifted(timedelta(minutes=5)):
        text = auditor.get("/dashboard/reports/settings/csv", params={"from": today, "to": today}).text
    assert "'=cmd()" in text
