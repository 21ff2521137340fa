"""Checks at providers: each is shown once, brought to its end, and not lost when answers are."""

from dataclasses import replace
from typing import Any

import pytest

from apps.sources.models import Connection, SentCheck
from apps.sources.providers.interface import Annotation, Check
from apps.sources.selectors.checks import checks_sent
from apps.sources.services.checks import check_show
from controlplane.lib import clock
from controlplane.lib.errors import RetryLater, Unavailable
from controlplane.lib.ids import new_id
from tests.interleaving import before_call
from tests.sources.conftest import app_connection, connection_of
from tests.sources.fake_provider import FakeProvider

pytestmark = pytest.mark.usefixtures("tables")

SHOP, COMMIT = "acme/shop", "c0ffee" + "0" * 34
KINDS = ["github", "gitlab", "gitea"]
QUEUED = Check(SHOP, COMMIT, "hybrid-ci/web", "01run", "queued", title="Waiting for an agent")
RUNNING = replace(QUEUED, status="in_progress", title="Running", started_at="2026-11-27T10:00:00Z")
PASSED = replace(RUNNING, status="completed", conclusion="success", title="Passed", completed_at="2026-11-27T10:01:00Z")
FAILED = replace(PASSED, conclusion="failure", title="Failed with exit code 1", details_url="https://ci.example/jobs/1")


@pytest.fixture
def shop(provider: FakeProvider) -> Connection:
    """A connection of an app that is installed for the repository."""
    provider.repository_add(SHOP)
    return app_connection(provider)


def plain(provider: FakeProvider, kind: str, **granted: Any) -> Connection:
    """A connection with a token alone."""
    if SHOP not in provider.repositories:
        provider.repository_add(SHOP)
    return connection_of(provider, kind, token=provider.token_add(**granted))


def show(connection: Connection, *checks: Check, turn: int = 0) -> None:
    """Show the checks as a process would that has read what was sent before."""
    for check in checks:
        known = checks_sent(str(connection.connection_id), SHOP, COMMIT)
        check_show(connection, check, run_id="01run", turn=turn, known=known)


def calls(provider: FakeProvider) -> list[str]:
    """The calls about checks and statuses."""
    return [
        f"{asked.method} {asked.path.rpartition(SHOP)[2]}"
        for asked in provider.asked
        if "/check-runs" in asked.path or "/statuses" in asked.path
    ]


def shown(provider: FakeProvider) -> list[tuple[Any, ...]]:
    """The check runs and statuses of the commit, in their order."""
    runs = [(run["name"], run["status"], run.get("conclusion")) for run in provider.check_runs]
    return runs + [(one.get("context") or one.get("name"), one["state"]) for one in provider.statuses]


def test_a_check_is_one_check_run_that_is_brought_to_its_end(provider: FakeProvider, shop: Connection) -> None:
    show(shop, QUEUED, RUNNING, RUNNING, FAILED, FAILED)
    (run,) = provider.check_runs
    assert calls(provider) == ["POST /check-runs", "PATCH /check-runs/1", "PATCH /check-runs/1"]
    assert (run["head_sha"], run["external_id"], run["status"], run["conclusion"]) == (
        COMMIT,
        "01run",
        "completed",
        "failure",
    )
    assert run["details_url"] == "https://ci.example/jobs/1"
    assert (run["started_at"], run["completed_at"]) == ("2026-11-27T10:00:00Z", "2026-11-27T10:01:00Z")
    assert run["output"]["title"] == run["output"]["summary"] == "Failed with exit code 1"


def test_a_check_that_begins_anew_is_a_new_check_run(provider: FakeProvider, shop: Connection) -> None:
    show(shop, FAILED)
    show(shop, QUEUED, RUNNING, PASSED, turn=1)
    # Nothing was sent between its two ends.
    show(shop, FAILED, turn=2)
    assert [run["conclusion"] for run in provider.check_runs] == ["failure", "success", "failure"]
    assert {run["external_id"] for run in provider.check_runs} == {"01run"}


def test_failed_tests_are_annotations_of_which_fifty_go_with_a_request(
    provider: FakeProvider, shop: Connection
) -> None:
    remarks = [Annotation(f"tests/test_{number}.py", number + 1, f"no {number}") for number in range(120)]
    show(shop, replace(FAILED, annotations=remarks))
    (run,) = provider.check_runs
    sent = [len(asked.body["output"].get("annotations", ())) for asked in provider.asked if "check-run" in asked.path]
    assert sent == [50, 50, 20]
    found = run["output"]["annotations"]
    assert [(one["path"], one["start_line"], one["message"]) for one in found] == [
        (remark.path, remark.line, remark.message) for remark in remarks
    ]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_annotations_are_added_once_when_an_answer_is_lost(provider: FakeProvider, shop: Connection, lost: int) -> None:
    remarks = [Annotation("tests/test_a.py", number + 1, f"no {number}") for number in range(120)]
    before = iter(range(1, 10))
    provider.before = lambda asked: (
        provider.disturb("lose", path="check-runs") if "check-runs" in asked.path and next(before) == lost - 1 else None
    )
    if lost == 1:
        provider.disturb("lose", path="check-runs")
    with pytest.raises(Unavailable):
        show(shop, replace(FAILED, annotations=remarks))
    provider.before = lambda _asked: None
    show(shop, replace(FAILED, annotations=remarks))
    (run,) = provider.check_runs
    assert [one["message"] for one in run["output"]["annotations"]] == [remark.message for remark in remarks]


def test_a_crash_after_a_check_was_sent_creates_no_second_one(provider: FakeProvider, shop: Connection) -> None:
    for check in (QUEUED, RUNNING, FAILED):
        # The process ends after the provider's answer, before it can note it.
        with pytest.raises(KeyboardInterrupt), before_call(_crash, call=1, operations=frozenset({"UpdateItem"})):
            show(shop, check)
        assert provider.check_runs[0]["status"] == check.status
        assert checks_sent("github", SHOP, COMMIT)["01run"].sending
        show(shop, check)
        assert len(provider.check_runs) == 1
    assert provider.check_runs[0]["conclusion"] == "failure"


def _crash() -> None:
    raise KeyboardInterrupt


def test_a_crash_before_anything_was_sent_loses_no_check(provider: FakeProvider, shop: Connection) -> None:
    provider.disturb("fail", path="check-runs")
    with pytest.raises(Unavailable):
        show(shop, QUEUED)
    assert provider.check_runs == []
    show(shop, QUEUED)
    # A new turn that was not sent is not taken for the one before.
    show(shop, FAILED)
    provider.disturb("fail", path="check-runs")
    with pytest.raises(Unavailable):
        show(shop, QUEUED, turn=1)
    show(shop, QUEUED, turn=1)
    assert [run["status"] for run in provider.check_runs] == ["completed", "queued"]


def test_two_processes_do_not_send_the_same_check(provider: FakeProvider, shop: Connection) -> None:
    known = checks_sent("github", SHOP, COMMIT)
    show(shop, QUEUED)
    with pytest.raises(RetryLater):
        check_show(shop, QUEUED, run_id="01run", turn=0, known=known)
    assert len(provider.check_runs) == 1


def test_where_checks_are_not_granted_the_commit_gets_a_status(provider: FakeProvider) -> None:
    provider.repository_add(SHOP)
    app = provider.app_add()
    app.permissions = {"contents": "read", "statuses": "write"}
    connection = app_connection(provider)
    show(connection, QUEUED, RUNNING, FAILED)
    assert shown(provider) == [
        ("hybrid-ci/web", "pending"),
        ("hybrid-ci/web", "pending"),
        ("hybrid-ci/web", "failure"),
    ]
    assert provider.statuses[-1]["target_url"] == "https://ci.example/jobs/1"
    assert provider.statuses[-1]["description"] == "Failed with exit code 1"
    # Only the first one asks for a check run.
    assert sum("check-runs" in call for call in calls(provider)) == 1


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("github", ["pending", "pending", "success", "failure", "error", "success", "failure", "success"]),
        ("gitlab", ["pending", "running", "success", "failed", "canceled", "success", "failed", "success"]),
        ("gitea", ["pending", "pending", "success", "failure", "error", "success", "failure", "success"]),
    ],
)
def test_a_plain_token_shows_commit_statuses(provider: FakeProvider, kind: str, states: list[str]) -> None:
    connection = plain(provider, kind)
    ends = [
        replace(PASSED, conclusion=conclusion, name=f"hybrid-ci/web/{conclusion}", external_id=f"01{conclusion}")
        for conclusion in ("failure", "cancelled", "skipped", "timed_out", "neutral")
    ]
    show(connection, QUEUED, RUNNING, PASSED, *ends)
    assert [one["state"] for one in provider.statuses] == states
    names = [one.get("context") or one["name"] for one in provider.statuses]
    assert names == ["hybrid-ci/web"] * 3 + [check.name for check in ends]
    assert {one["sha"] for one in provider.statuses} == {COMMIT}


def test_a_repeated_status_is_no_failure(provider: FakeProvider) -> None:
    for kind in KINDS:
        connection = plain(provider, kind)
        for check in (QUEUED, RUNNING, FAILED):
            provider.disturb("lose", path="statuses")
            with pytest.raises(Unavailable):
                show(connection, check)
            show(connection, check)
        assert provider.statuses[-1]["state"] in ("failure", "failed")


def test_an_older_run_does_not_take_the_place_of_a_newer_one(provider: FakeProvider) -> None:
    older, newer = sorted((new_id(), new_id()))
    for kind in KINDS:
        connection = plain(provider, kind)
        show(connection, replace(RUNNING, external_id=older), replace(PASSED, external_id=newer))
        count = len(provider.statuses)
        show(connection, replace(FAILED, external_id=older))
        assert len(provider.statuses) == count


def test_a_check_run_of_an_older_run_is_ended_nevertheless(provider: FakeProvider, shop: Connection) -> None:
    older, newer = sorted((new_id(), new_id()))
    show(shop, replace(RUNNING, external_id=older), replace(PASSED, external_id=newer))
    show(shop, replace(FAILED, external_id=older))
    assert [(run["external_id"], run.get("conclusion")) for run in provider.check_runs] == [
        (older, "failure"),
        (newer, "success"),
    ]


@pytest.mark.parametrize(
    ("limit", "seconds", "wanted"), [("limit", 600, 600), ("secondary", 90, 90), ("secondary", 0, 60)]
)
def test_a_rate_limit_says_when_to_go_on(
    provider: FakeProvider, shop: Connection, limit: str, seconds: int, wanted: int
) -> None:
    show(shop, QUEUED)
    provider.disturb(limit, path="check-runs", seconds=seconds)
    asked = len(provider.asked)
    for _ in range(2):
        with pytest.raises(RetryLater) as refused:
            show(shop, RUNNING)
        assert refused.value.seconds == pytest.approx(wanted, abs=3)
    # While the limit lasts, nothing more is asked.
    assert len(provider.asked) == asked + 1


def test_a_refusal_that_users_can_remove_is_tried_again(provider: FakeProvider) -> None:
    connection = plain(provider, "gitea", contents="read")
    with pytest.raises(RetryLater) as refused:
        show(connection, QUEUED)
    assert refused.value.seconds == 900
    connection = plain(provider, "gitea")
    show(connection, QUEUED)
    assert shown(provider) == [("hybrid-ci/web", "pending")]
    connection.encrypted_token = None
    with pytest.raises(RetryLater):
        show(connection, RUNNING)


def test_a_check_that_the_provider_will_never_accept_keeps_no_other_back(
    provider: FakeProvider, shop: Connection
) -> None:
    provider.disturb("fail", path="POST .*check-runs", status=422)
    show(shop, QUEUED)
    sent = checks_sent("github", SHOP, COMMIT)["01run"]
    assert sent.shows("queued", 0)
    assert "422" in str(sent.problem)
    show(shop, PASSED)
    assert shown(provider) == [("hybrid-ci/web", "completed", "success")]
    assert SentCheck.get(sent.place, "01run").problem is None


def test_a_check_run_that_github_has_removed_is_made_again(provider: FakeProvider, shop: Connection) -> None:
    show(shop, QUEUED)
    provider.check_runs.clear()
    show(shop, PASSED)
    assert shown(provider) == [("hybrid-ci/web", "completed", "success")]


def test_long_texts_are_cut_to_what_github_takes(provider: FakeProvider, shop: Connection) -> None:
    remark = Annotation("a.py", 1, "m" * 100_000, title="t" * 1_000)
    show(shop, replace(FAILED, title="ä" * 500, summary="ä" * 100_000, annotations=[remark]))
    (run,) = provider.check_runs
    assert len(run["output"]["summary"].encode()) <= 65_535
    assert len(run["output"]["title"]) == 140
    assert len(run["output"]["annotations"][0]["title"]) == 255


def test_what_was_sent_is_forgotten_after_ninety_days(provider: FakeProvider, shop: Connection) -> None:
    show(shop, QUEUED)
    (record,) = SentCheck.query("github#acme/shop#" + COMMIT)
    assert 89 <= (record.expires_at - clock.now()).days <= 90
