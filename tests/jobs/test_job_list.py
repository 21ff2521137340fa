"""``GET /jobs``: filters, order, pages and totals."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from apps.jobs.models import OPEN, Job
from apps.jobs.selectors import jobs as jobs_selector
from apps.jobs.services import job_cancel, job_create, logs_archive
from apps.jobs.states import Status
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import id_moment, new_id
from tests.clients import Client, problem
from tests.conftest import OPERATOR
from tests.metering import dynamodb_calls
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]


def listed(client: Client, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(client: Client, query: str = "") -> list[str]:
    """The jobs of the first page, and the page's total must be theirs."""
    page = listed(client, query)
    found = [job["job_id"] for job in page["jobs"]]
    assert (page["total"], page["total_is_lower_bound"]) == (len(found), False), page
    return found


def all_ids(client: Client, query: str = "", *, between: Callable[[], object] = lambda: None) -> list[str]:
    """The jobs of all pages; `between` is called after each."""
    found, cursor = [], ""
    while True:
        page = listed(client, f"{query}{cursor}")
        found += [job["job_id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
        between()


def stored_jobs(count: int, *, status: Status = Status.QUEUED, pipeline: str = "self") -> list[str]:
    """Writes job records directly, without queue or counters. The jobs, newest first."""
    made = []
    with Job.batch_write() as batch:
        for _ in range(count):
            job_id = new_id()
            moment = id_moment(job_id)
            batch.save(
                Job(
                    job_id=job_id,
                    run_id=new_id(),
                    pipeline=pipeline,
                    repository="https://git.example.com/app.git",
                    git_ref="main",
                    priority=50,
                    retries=2,
                    requested_by="tests",
                    status=status,
                    created_at=clock.timestamp(moment),
                    created_day=f"{moment:%Y-%m-%d}",
                    open=OPEN,
                )
            )
            made.append((clock.timestamp(moment), job_id))
    return [job_id for _, job_id in sorted(made, reverse=True)]


def test_without_jobs_the_list_is_empty(viewer: Client) -> None:
    assert listed(viewer) == {"jobs": [], "total": 0, "total_is_lower_bound": False, "next_cursor": None}


def test_jobs_are_listed_newest_first_with_the_members_of_the_contract(viewer: Client, make_job: MakeJob) -> None:
    made = [make_job() for _ in range(3)]
    page = listed(viewer)
    assert [job["job_id"] for job in page["jobs"]] == made[::-1]
    assert page["total"] == 3
    promised = {
        "job_id",
        "status",
        "git_ref",
        "agent_id",
        "created_at",
        "started_at",
        "completed_at",
        "exit_code",
        "logs_url",
        "error_message",
        "pipeline",
        "attempt",
    }
    assert promised <= set(page["jobs"][0])


def test_each_filter_narrows_the_list_and_its_total(
    server: str, operator: Client, operator_actor: Actor, make_job: MakeJob
) -> None:
    pipeline_save(
        actor=operator_actor,
        name="other",
        repository="https://git.example.com/other.git",
        default_ref="main",
        definition="steps: [{run: make}]",
    )
    one, two = enrolled(server), enrolled(server, name="build-2")
    completed = make_job(git_ref="v1")
    one.finish(one.take())
    failed = make_job(git_ref="v2", pipeline="other")
    two.finish(two.take(), exit_code=1)
    timed_out = make_job()
    steps = [{"name": "lint", "state": "timed_out"}]
    one.finish(one.take(), exit_code=1, steps=steps)
    running = make_job(git_ref="v1", pipeline="other")
    two.take()
    assigned = make_job(git_ref="v1")
    one.heartbeat()
    cancelled = make_job(git_ref="v2")
    operator.post(f"/jobs/{cancelled}/cancel")
    queued = make_job(pipeline="other")
    expected = {
        "status=completed": [completed],
        "status=failed": [failed],
        "status=timed_out": [timed_out],
        "status=running": [running],
        "status=assigned": [assigned],
        "status=cancelled": [cancelled],
        "status=queued": [queued],
        "status=waiting": [],
        "pipeline=other": [queued, running, failed],
        "pipeline=nowhere": [],
        "git_ref=v1": [assigned, running, completed],
        "git_ref=v2": [cancelled, failed],
        "git_ref=a%20b": [],
        # An agent has its jobs from when it started them.
        f"agent={one.agent_id}": [timed_out, completed],
        f"agent={two.agent_id}": [running, failed],
        f"agent={new_id()}": [],
        "pipeline=other&git_ref=v1": [running],
        "pipeline=other&status=failed": [failed],
        "pipeline=self&status=failed": [],
        "git_ref=v1&status=running": [running],
        f"agent={one.agent_id}&status=completed": [completed],
        f"agent={one.agent_id}&status=assigned": [assigned],
        f"agent={one.agent_id}&git_ref=v1": [completed],
        f"agent={two.agent_id}&git_ref=v1&pipeline=other&status=running": [running],
    }
    for _ in range(2):
        assert {query: ids(operator, query) for query in expected} == expected
        # A job whose log is archived is no longer open.
        logs_archive()


def test_wrong_parameters_are_refused_and_named(viewer: Client) -> None:
    for query, field in (
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("status=QUEUED", "status"),
        ("status=", "status"),
        ("status=queued&status=failed", "status"),
        ("pipeline=", "pipeline"),
        ("pipeline=%00", "pipeline"),
        ("pipeline=" + "x" * 64, "pipeline"),
        ("git_ref=%00", "git_ref"),
        ("git_ref=" + "x" * 256, "git_ref"),
        ("agent=", "agent"),
        ("agent=x", "agent"),
        ("agent=" + "x" * 26, "agent"),
        ("agent=%00", "agent"),
        ("cursor=", "cursor"),
        ("cursor=" + "x" * 8193, "cursor"),
        ("agent_id=" + "0" * 26, "agent_id"),
        ("offset=5", "offset"),
        ("=5", ""),
    ):
        body = problem(viewer.get(f"/jobs?{query}"), 400, "invalid_input")
        assert body["errors"][0]["field"] == field, query


def test_forged_foreign_and_broken_cursors_are_refused(
    viewer: Client, make_job: MakeJob, operator_actor: Actor
) -> None:
    for _ in range(3):
        make_job()
    for name in ("aaa", "bbb"):
        pipeline_save(
            actor=operator_actor, name=name, repository="https://a.example/b.git", default_ref="m", definition=None
        )
    cursor = listed(viewer, "limit=1")["next_cursor"]
    text, signature = cursor.rsplit(".", 1)
    wrong = [
        "x",
        ".",
        cursor[:-1],
        cursor + "A",
        f"{text}.{'A' * len(signature)}",
        f"{text[:-2]}.{signature}",
        f"AAAA{cursor}",
        "%00" + cursor,
        "%ff",
        "é",
        viewer.get("/pipelines?limit=1").json()["next_cursor"],
    ]
    for forged in wrong:
        problem(
            viewer.get(f"/jobs?limit=1&cursor={forged}"), 400, "invalid_input" if "%00" in forged else "invalid_cursor"
        )
    for query in ("status=queued", "pipeline=self", "git_ref=main", f"agent={new_id()}"):
        problem(viewer.get(f"/jobs?limit=1&{query}&cursor={cursor}"), 400, "invalid_cursor")
    assert len(listed(viewer, f"limit=1&cursor={cursor}")["jobs"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("each_day", [15, pytest.param(50, marks=pytest.mark.nightly)])
def test_jobs_of_several_days_are_paged_without_loss_or_duplicates_while_others_are_added(
    server: str, viewer: Client, pipeline: str, operator_actor: Actor, each_day: int
) -> None:
    made: list[str] = []
    # The days reach into the next year, because the days with jobs are counted by year.
    for days in (0, 1, 2, 30, 45):
        with clock.shifted(timedelta(days=days)), ThreadPoolExecutor(4) as pool:
            made += pool.map(lambda _: job_create(actor=operator_actor).job_id, range(each_day))
    moments = {job.job_id: job.created_at for job in Job.find_many(made)}
    with clock.shifted(timedelta(days=45)):
        later: list[str] = []

        def another() -> None:
            later.append(job_create(actor=operator_actor).job_id)

        found = all_ids(viewer, "limit=7", between=another)
        assert sorted(found) == sorted(made)
        # Jobs of the same millisecond have no order.
        assert [moments[job_id] for job_id in found] == sorted(moments.values(), reverse=True)
        assert listed(viewer)["total"] == 5 * each_day + len(later)
        assert all_ids(viewer, "limit=100") == later[::-1] + found
        for query in ("limit=33&status=queued", "limit=33&pipeline=self", "limit=33&git_ref=main"):
            assert all_ids(viewer, query) == later[::-1] + found, query


def test_a_page_that_ends_with_the_last_job_has_no_next_one(viewer: Client, make_job: MakeJob) -> None:
    for _ in range(4):
        make_job()
    for query in ("", "&status=queued", "&pipeline=self"):
        page = listed(viewer, f"limit=4{query}")
        assert (len(page["jobs"]), page["next_cursor"]) == (4, None)
        assert listed(viewer, f"limit=3{query}")["next_cursor"]


def test_pages_by_agent_and_by_outcome_have_neither_loss_nor_duplicates(
    viewer: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    made = []
    for number in range(23):
        with clock.shifted(timedelta(days=number // 8)):
            made.append(make_job())
            agent.finish(agent.take(), exit_code=number % 2)
    with clock.shifted(timedelta(days=3)):
        assert all_ids(viewer, f"limit=5&agent={agent.agent_id}") == made[::-1]
        assert all_ids(viewer, "limit=5&status=failed") == made[1::2][::-1]
        assert all_ids(viewer, f"limit=5&status=completed&agent={agent.agent_id}") == made[::2][::-1]
        assert listed(viewer, "status=failed")["total"] == 11
        assert listed(viewer, "status=completed&pipeline=self")["total"] == 12


def test_a_job_that_changes_its_status_between_pages_causes_no_loss_or_duplicate(
    viewer: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    made = [make_job() for _ in range(9)]

    def run_oldest() -> None:
        agent.finish(agent.take(), wants_next=False)
        logs_archive()

    # The oldest waiting jobs leave the list while it is read.
    assert all_ids(viewer, "limit=3&status=queued", between=run_oldest) == made[2:][::-1]


def test_a_total_beyond_the_counting_limit_is_a_lower_bound(
    viewer: Client, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_selector, "TOTAL_LIMIT", 10)
    for expected in (10, 10, 10):
        while listed(viewer, "limit=1")["total"] < expected:
            make_job()
    for query in ("pipeline=self", "git_ref=main"):
        page = listed(viewer, f"limit=1&{query}")
        assert (page["total"], page["total_is_lower_bound"]) == (10, False)
    make_job()
    for query in ("pipeline=self", "git_ref=main", "pipeline=self&git_ref=main"):
        page = listed(viewer, f"limit=1&{query}")
        assert (page["total"], page["total_is_lower_bound"]) == (10, True), query
    # The total of all jobs comes from counters, without counting.
    page = listed(viewer, "limit=1")
    assert (page["total"], page["total_is_lower_bound"]) == (11, False)


def test_open_jobs_beyond_the_reading_limit_are_a_lower_bound(
    viewer: Client, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_selector, "_LOOK_AT_MOST", 200)
    make_job()
    stored_jobs(150)
    page = listed(viewer, "limit=1&status=queued")
    assert (page["total"], page["total_is_lower_bound"]) == (151, False)
    stored_jobs(100)
    page = listed(viewer, "limit=1&status=queued")
    assert page["total_is_lower_bound"]
    assert 200 <= page["total"] <= 251


def test_a_filter_that_few_match_does_not_read_the_whole_history(
    viewer: Client, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_selector, "_LOOK_AT_MOST", 300)
    monkeypatch.setattr(jobs_selector, "_COUNT_AT_MOST", 600)
    old = make_job(git_ref="old")
    for _ in range(3):
        make_job()
    stored_jobs(1000)
    with dynamodb_calls() as metering:
        page = listed(viewer, "limit=5&git_ref=old")
    assert page["total_is_lower_bound"]
    assert metering.calls <= 12
    assert all_ids(viewer, "limit=5&git_ref=old") == [old]


def test_the_first_page_costs_the_same_however_many_jobs_there_are(viewer: Client, make_job: MakeJob) -> None:
    make_job()
    listed(viewer)
    counts = []
    for more in (30, 500):
        stored_jobs(more)
        with dynamodb_calls() as metering:
            assert len(listed(viewer, "limit=20")["jobs"]) == 20
        counts.append(metering.calls)
    assert counts[0] == counts[1] <= 6


def test_jobs_are_filtered_by_the_day_on_which_they_ended(
    operator: Client, make_job: MakeJob, agent: AgentClient
) -> None:
    with clock.shifted(timedelta(days=-2)):
        old = make_job()
        job_cancel(actor=OPERATOR, job_id=old)
        waited = make_job()
    job_cancel(actor=OPERATOR, job_id=waited)
    made = [make_job() for _ in range(3)]
    for job_id in made:
        job_cancel(actor=OPERATOR, job_id=job_id)
    today = clock.now().date().isoformat()
    query = f"status=cancelled&ended={today}"
    assert ids(operator, query) == [*reversed(made), waited]
    assert all_ids(operator, f"{query}&limit=2") == [*reversed(made), waited]
    assert ids(operator, f"{query}&pipeline=self") == [*reversed(made), waited]
    assert ids(operator, f"{query}&git_ref=none") == []
    assert ids(operator, f"status=failed&ended={today}") == []
    with dynamodb_calls() as metering:
        listed(operator, f"{query}&limit=4")
    # The token; the day's counter and the days with jobs; two days and their jobs. No older day is read.
    assert sorted(metering.operations) == ["BatchGetItem"] * 3 + ["Query"] * 4
    for wrong in ("ended=today", f"ended={today}", f"status=running&ended={today}", "status=failed&ended=20261126"):
        refused = problem(operator.get(f"/jobs?{wrong}"), 400, "invalid_input")
        assert [error["field"] for error in refused["errors"]] == ["ended"]
