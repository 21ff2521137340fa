"""Searching the trail: by actor, by target, by action and by day, each by an index, page by page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.audit.actions import Action
from apps.audit.models import SHARDS, AuditRecord, shard_keys
from apps.audit.selectors import BY_DAY, audit_about, audit_list, audit_search
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from controlplane.lib.errors import InvalidInput
from controlplane.nosql import listing
from tests.audit.trail import ADA, BUILDER, CI, STRANGER, event, whole, write
from tests.metering import dynamodb_calls

pytestmark = pytest.mark.usefixtures("tables")

OWN = "job:01kjob0000000000000000000a"


def today() -> str:
    return clock.timestamp(clock.now())[:10]


def targets(records: list[AuditRecord]) -> list[str]:
    return [record.target for record in records]


@pytest.mark.parametrize("foreign", [300, pytest.param(6_000, marks=pytest.mark.nightly)])
def test_with_any_number_of_foreign_acts_a_jobs_history_is_whole_in_at_most_3_calls_a_page(foreign: int) -> None:
    acts = [Action.JOB_CREATED, Action.JOB_CLAIMED, Action.JOB_STARTED, Action.JOB_FINISHED]
    own = []
    for number, action in enumerate(acts):
        own += write([event(OWN, action=action)])
        if number < len(acts) - 1:
            write(event(f"job:{number}-{other}", actor=BUILDER) for other in range(foreign // 3))
    with dynamodb_calls() as counted:
        page = audit_search(target=OWN)
    assert [record.action for record in page.records] == acts[::-1]
    assert page.next_cursor is None
    assert counted.calls <= 3


@pytest.mark.parametrize("limit", [1, 50, 100])
def test_a_history_of_any_length_is_whole_in_at_most_3_calls_a_page(limit: int) -> None:
    written = write(event(OWN, action=Action.JOB_REQUEUED) for _ in range(120))
    page = audit_search(target=OWN, limit=limit)
    found = page.records
    while page.next_cursor and len(found) < 10 * limit:
        with dynamodb_calls() as counted:
            page = audit_search(target=OWN, limit=limit, cursor=page.next_cursor)
        assert counted.calls <= 3
        found += page.records
    assert [record.entry for record in found] == [record.entry for record in written[::-1]][: 10 * limit]


@pytest.mark.parametrize(
    ("search", "calls"),
    [
        ({"target": OWN}, ["Query", "BatchGetItem"]),
        ({"actor": f"agent:{BUILDER.id}"}, ["Query", "BatchGetItem"]),
        ({"actor": "system"}, ["Query"] * SHARDS + ["BatchGetItem"]),
        ({"action": Action.JOB_CREATED}, ["Query"] * SHARDS + ["BatchGetItem"]),
        ({"first_day": clock.now().date()}, ["Query"] * SHARDS),
    ],
)
def test_a_page_is_as_many_calls_however_many_events_there_are(search: dict[str, Any], calls: list[str]) -> None:
    write(event(OWN, actor=actor) for actor in (BUILDER, SYSTEM) for _ in range(150))
    for _ in range(2):
        with dynamodb_calls() as counted:
            assert len(audit_search(**search).records) == 50
        assert counted.operations == calls


def test_search_by_actor_finds_a_person_with_their_api_tokens() -> None:
    write([event("job:1"), event("job:2", actor=CI), event("job:3", actor=BUILDER), event("job:4")])
    assert targets(whole(actor=f"user:{ADA.id}")) == ["job:4", "job:2", "job:1"]
    assert targets(whole(actor=f"agent:{BUILDER.id}")) == ["job:3"]


def test_search_by_actor_finds_what_one_api_token_did_also_after_it_was_revoked() -> None:
    write(
        [
            event(f"api_token:{CI.id}", action=Action.API_TOKEN_CREATED, detail={"name": "ci", "owner": ADA.id}),
            event("job:1", actor=CI),
            event("job:2"),
            event(f"api_token:{CI.id}", action=Action.API_TOKEN_REVOKED, detail={"name": "ci", "owner": ADA.id}),
            event("job:3", actor=CI),
        ]
    )
    assert targets(whole(actor=f"token:{CI.id}")) == ["job:3", "job:1"]
    assert whole(actor="token:01kunknown") == []


def test_search_by_actor_finds_the_system_and_strangers() -> None:
    write([event("job:1", actor=SYSTEM), event("job:2"), event("email:a@b.c", actor=STRANGER, result="refused")])
    assert targets(whole(actor="system")) == ["job:1"]
    assert targets(whole(actor="user:unknown")) == ["email:a@b.c"]


def test_search_by_target_finds_refused_events_too() -> None:
    mail = "email:ada@example.com"
    write(event(target, action=Action.USER_SIGN_IN_FAILED, result="refused") for target in (mail, "email:eve@x.org"))
    assert targets(whole(target=mail)) == [mail]
    write(event("email:unknown", action=Action.USER_SIGN_IN_FAILED, result="refused") for _ in range(30))
    assert len(whole(target="email:unknown", limit=7)) == 30


def test_search_by_action_finds_all_events_of_it_in_their_order() -> None:
    for number in range(30):
        write([event(f"job:{number}", action=Action.JOB_CANCELLED), event(f"job:{number}")])
    assert targets(whole(action=Action.JOB_CANCELLED, limit=4)) == [f"job:{number}" for number in range(29, -1, -1)]


def test_filters_are_combined() -> None:
    write(
        event(target, actor=actor, action=action)
        for target in ("job:1", "job:2")
        for actor in (ADA, SYSTEM)
        for action in (Action.JOB_CREATED, Action.JOB_CANCELLED)
    )
    for search in (
        {"target": "job:1", "actor": "system", "action": Action.JOB_CANCELLED},
        {"target": "job:1", "actor": f"user:{ADA.id}"},
        {"actor": f"user:{ADA.id}", "action": Action.JOB_CREATED},
        {"actor": "system", "action": Action.JOB_CREATED},
        {"target": "job:2", "action": Action.JOB_CREATED},
    ):
        found = whole(limit=1, **search)
        assert len(found) == 2 ** (3 - len(search))
        for record in found:
            assert record.target == search.get("target", record.target)
            assert record.action == search.get("action", record.action)
            assert search.get("actor") in (None, "system" if record.actor_kind == "system" else record.principal)


def test_a_filter_that_matches_few_events_ends_its_page_after_a_bounded_number_of_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "LOOK_AT_MOST", 100)
    write([event(OWN, action=Action.JOB_CANCELLED)])
    write(event(OWN) for _ in range(120))
    with dynamodb_calls() as counted:
        page = audit_search(target=OWN, action=Action.JOB_CANCELLED)
    assert page.records == []
    assert counted.calls <= 4
    second = audit_search(target=OWN, action=Action.JOB_CANCELLED, cursor=page.next_cursor)
    assert len(second.records) == 1


def test_the_index_that_narrows_most_is_read() -> None:
    write(event(OWN, actor=actor, action=Action.JOB_CANCELLED) for actor in (BUILDER, SYSTEM))
    write(event(f"job:{number}", actor=(BUILDER, SYSTEM)[number % 2]) for number in range(210))
    searches: list[tuple[dict[str, Any], int, int]] = [
        ({"target": OWN, "action": Action.JOB_CANCELLED, "actor": "system"}, 1, 1),
        # One agent did less than all agents.
        ({"actor": f"agent:{BUILDER.id}", "action": Action.JOB_CANCELLED}, 2, 3),
        # The system did more than was cancelled.
        ({"actor": "system", "action": Action.JOB_CANCELLED}, SHARDS, 1),
    ]
    for search, queries, reads in searches:
        with dynamodb_calls() as counted:
            assert targets(audit_search(limit=100, **search).records) == [OWN]
        assert (counted.operations.count("Query"), counted.operations.count("BatchGetItem")) == (queries, reads)


@pytest.mark.parametrize("search", [{"target": OWN}, {"action": Action.JOB_CREATED}])
def test_an_index_is_read_within_the_days_only(search: dict[str, Any]) -> None:
    with clock.shifted(timedelta(days=-1)):
        yesterday = clock.now().date()
        write([event(OWN)])
    write(event(OWN) for _ in range(40))
    with dynamodb_calls() as counted:
        assert len(audit_search(last_day=yesterday, limit=5, **search).records) == 1
    assert counted.operations.count("BatchGetItem") == 1


def test_a_search_of_days_reads_no_others() -> None:
    yesterday = clock.now().date() - timedelta(days=1)
    with dynamodb_calls() as counted:
        assert audit_search(first_day=yesterday, last_day=yesterday).records == []
    assert counted.operations == ["Query"] * SHARDS


@pytest.mark.parametrize("search", [{}, {"target": OWN}, {"actor": f"user:{ADA.id}"}, {"action": Action.JOB_CREATED}])
def test_days_limit_every_search(search: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: noon + timedelta(days=1))
    moments = [
        noon.replace(hour=0, minute=0) - timedelta(microseconds=1),
        noon.replace(hour=0, minute=0),
        noon.replace(hour=23, minute=59, second=59, microsecond=999_999),
        noon.replace(hour=0, minute=0) + timedelta(days=1),
    ]
    for number, moment in enumerate(moments):
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        write([event(OWN, detail={"number": number})])
    day = noon.date()

    def found(**days: Any) -> list[int]:
        return [record.detail["number"] for record in whole(limit=1, **search, **days)]

    assert found(first_day=day, last_day=day) == [2, 1]
    assert found(first_day=day) == [3, 2, 1]
    assert found(last_day=day) == [2, 1, 0]
    assert found(first_day=day + timedelta(days=1), last_day=day) == []
    assert found() == [3, 2, 1, 0]


def test_without_an_index_a_search_covers_31_days() -> None:
    for days in (0, 30, 31):
        with clock.shifted(timedelta(days=-days)):
            write([event(f"job:{days}")])
    assert targets(whole()) == ["job:0", "job:30"]
    first = clock.now().date() - timedelta(days=40)
    assert targets(whole(first_day=first)) == ["job:0", "job:30", "job:31"]


def test_a_search_of_centuries_reads_no_more_than_a_page() -> None:
    with dynamodb_calls() as counted:
        page = audit_search(first_day=datetime(1, 1, 1, tzinfo=UTC).date())
    assert page.records == []
    assert counted.calls <= 7 * SHARDS
    assert whole(last_day=datetime(1, 1, 1, tzinfo=UTC).date()) == []
    # Going back from a page lists all of its days.
    assert list(BY_DAY.partitions({"entry__gte": "0001-01-01"}))[-1] == shard_keys("2026-01-01")


def test_a_day_is_read_newest_first_and_page_by_page() -> None:
    write(event(f"job:{number}") for number in range(5))
    first = audit_list(day=today(), limit=2)
    second = audit_list(day=today(), limit=2, cursor=first.next_cursor)
    third = audit_list(day=today(), limit=2, cursor=second.next_cursor)
    assert [targets(page.records) for page in (first, second, third)] == [
        ["job:4", "job:3"],
        ["job:2", "job:1"],
        ["job:0"],
    ]
    assert third.next_cursor is None


def test_events_of_the_same_moment_are_listed_once_each_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    written = write(event(f"job:{number}") for number in range(12))
    entries = sorted((record.entry for record in written), reverse=True)
    assert len({record.day for record in written}) > 1
    for limit in (1, 5, 50):
        assert [record.entry for record in whole(limit=limit, first_day=now.date())] == entries
        assert [record.entry for record in whole(limit=limit, action=Action.JOB_CREATED)] == entries


@pytest.mark.parametrize("search", [{}, {"action": Action.JOB_CREATED}, {"target": OWN}])
def test_a_cursor_survives_events_that_arrive_meanwhile(search: dict[str, Any]) -> None:
    written = write(event(OWN, detail={"number": number}) for number in range(60))
    page = audit_search(limit=20, **search)
    found = page.records
    while page.next_cursor:
        write(event(OWN, detail={"number": 1_000}) for _ in range(20))
        page = audit_search(limit=20, cursor=page.next_cursor, **search)
        found += page.records
    assert [record.entry for record in found] == [record.entry for record in written[::-1]]


def test_each_day_has_its_own_events() -> None:
    with clock.shifted(timedelta(days=-1)):
        write([event("job:yesterday")])
    write([event("job:today")])
    assert targets(audit_list(day=today()).records) == ["job:today"]


def test_the_cursor_of_another_search_is_refused() -> None:
    write(event(OWN) for _ in range(2))
    cursor = audit_search(target=OWN, limit=1).next_cursor
    for search in (
        {"target": "job:other"},
        {"action": Action.JOB_CREATED},
        {"target": OWN, "action": "job.created"},
        {},
    ):
        with pytest.raises(InvalidInput) as refused:
            audit_search(cursor=cursor, **search)
        assert refused.value.code == "invalid_cursor"
    cursor = audit_list(day=today(), limit=1).next_cursor
    with pytest.raises(InvalidInput):
        audit_list(day="2026-01-01", cursor=cursor)


def test_events_of_earlier_versions_are_in_the_list_of_their_day_and_of_their_target() -> None:
    moment = clock.timestamp(clock.now())
    old = AuditRecord(
        moment[:10],
        f"{moment}#01kold00000000000000000000",
        actor_kind="user",
        actor_id=ADA.id,
        actor_name="Ada",
        action="pipeline.saved",
        target="pipeline:web",
        about="pipeline:web",
        result="ok",
    )
    write([old, event("pipeline:web", action=Action.PIPELINE_SAVED)])
    assert len(audit_list(day=today()).records) == 2
    assert [record.principal for record in whole(target="pipeline:web", actor=f"user:{ADA.id}")] == [
        f"user:{ADA.id}",
        f"user:{ADA.id}",
    ]


def test_the_events_of_several_targets_are_one_history_page_by_page() -> None:
    written = write(event(target) for _ in range(5) for target in ("run:1", "job:1", "job:2"))
    own = [record.entry for record in written if record.target != "job:2"][::-1]
    with dynamodb_calls() as counted:
        page = audit_about(["run:1", "job:1"], detail={}, limit=4)
    assert counted.operations == ["Query", "Query", "BatchGetItem"]
    found = page.records
    while page.next_cursor:
        page = audit_about(["run:1", "job:1"], detail={}, limit=4, cursor=page.next_cursor)
        found += page.records
    assert [record.entry for record in found] == own
    with pytest.raises(InvalidInput):
        audit_about(["run:1"], detail={}, cursor=audit_about(["run:1", "job:1"], detail={}, limit=4).next_cursor)


def test_a_history_may_ask_for_members_of_the_detail() -> None:
    written = write(event("secret:A", detail={"rotation": name, "step": n}) for n in range(3) for name in ("a", "b"))
    write([event("secret:A"), event("secret:B", detail={"rotation": "a"})])
    found = audit_about(["secret:A"], detail={"rotation": "a"}).records
    assert [record.entry for record in found] == [record.entry for record in written[::2]][::-1]


def test_the_history_of_a_crowd_is_read_from_all_of_its_shards() -> None:
    target = "email:ada@example.com"
    written = write(event(target) for _ in range(20))
    with dynamodb_calls() as counted:
        found = audit_about([target], detail={}).records
    assert counted.operations == ["Query"] * SHARDS + ["BatchGetItem"]
    assert [record.entry for record in found] == [record.entry for record in written[::-1]]
