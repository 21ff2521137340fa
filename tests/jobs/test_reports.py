"""Test results and coverage over HTTP: what agents may send, and what people get of it."""

import gzip
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.jobs.models import Job, JobReport, report_place, reports_stream
from apps.jobs.reports.history import CaseHistory
from apps.jobs.reports.packing import cases_pack
from apps.jobs.reports.results import MAX_REPORTS, Case, Outcome
from apps.jobs.selectors import job_get, job_tests, pipeline_coverage, pipeline_tests, reports, run_tests
from apps.jobs.services import leases_expire
from controlplane.lib import clock
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.jobs.test_agent_api import replayed
from tests.jobs.test_reports_read import COBERTURA, file
from tests.polling import polled
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]

PASSES = b'<testsuite><testcase classname="shop" name="pays" time="0.2"/></testsuite>'
FAILS = b'<testsuite><testcase classname="shop" name="pays" time="0.3"><failure message="no"/></testcase></testsuite>'


@pytest.fixture
def assignment(agent: AgentClient, make_job: MakeJob) -> dict[str, Any]:
    """A job that the agent runs."""
    make_job()
    return agent.take()


def coverage(rate: float) -> bytes:
    return COBERTURA.format(attributes=f'lines-valid="1000" lines-covered="{round(rate * 1000)}"', lines="").encode()


# --- what agents send -----------------------------------------------------------------------------------------------


def test_failures_have_their_message_and_duration_on_the_api(
    agent: AgentClient, assignment: dict[str, Any], viewer: Client
) -> None:
    answer = agent.report(assignment, 0, file("jest"), Report_File="out/jest%20%C3%A9.xml")
    assert answer.json() == {"total": 2, "failed": 1, "skipped": 0, "coverage": None}
    agent.report(assignment, 1, gzip.compress(file("gradle")), Content_Encoding="gzip")
    answer = agent.report(assignment, 2, coverage(0.875), Report_Kind="cobertura")
    assert answer.json() == {"total": None, "failed": None, "skipped": None, "coverage": 0.875}
    found = viewer.get(f"/jobs/{assignment['job_id']}/tests").json()
    assert found["totals"] == {"total": 4, "passed": 2, "failed": 1, "skipped": 1, "flaky": 0, "seconds": 0.016}
    assert [entry["file"] for entry in found["files"]] == ["out/jest é.xml", "report.xml"]
    (failure,) = found["failures"]
    assert failure.pop("details").startswith("Error: expect(received)")
    assert failure == {
        "file": "out/jest é.xml",
        "group": "Cart removes",
        "name": "Cart removes",
        "seconds": 0.005,
        "message": "Error: expect(received).toBe(expected)",
    }
    assert found["coverage"] == {"rate": 0.875, "lines_covered": 875, "lines_valid": 1000}
    assert (found["attempt"], found["cut"]) == (1, False)


def test_a_job_without_reports_has_empty_results(make_job: MakeJob, viewer: Client) -> None:
    job_id = make_job()
    found = viewer.get(f"/jobs/{job_id}/tests").json()
    assert (found["attempt"], found["files"], found["failures"], found["coverage"]) == (0, [], [], None)
    problem(viewer.get(f"/jobs/{new_id()}/tests"), 404, "job_not_found")


def test_a_report_may_be_repeated_and_replayed_but_not_changed(agent: AgentClient, assignment: dict[str, Any]) -> None:
    request = agent.report_request(assignment, 0, FAILS)
    assert replayed(agent, request, 12) == {200: 12}
    assert job_tests(job_get(assignment["job_id"])).totals.total == 1
    problem(agent.report(assignment, 0, PASSES), 409, "report_conflict")
    assert job_tests(job_get(assignment["job_id"])).totals.failed == 1


def test_only_the_agent_that_has_the_attempt_may_report(
    server: str, agent: AgentClient, assignment: dict[str, Any]
) -> None:
    other = enrolled(server, name="build-2")
    problem(other.report(assignment, 0, PASSES), 409, "stale_attempt")
    problem(agent.report({**assignment, "attempt": 2}, 0, PASSES), 409, "stale_attempt")
    problem(agent.report({**assignment, "attempt": 0}, 0, PASSES), 409, "stale_attempt")
    problem(agent.report({**assignment, "job_id": new_id()}, 0, PASSES), 404, "job_not_found")
    path = f"/agents/{agent.agent_id}/jobs/{assignment['job_id']}/reports/1/0"
    problem(other.send(other.signed(path, PASSES)), 403, "wrong_agent")
    assert job_tests(job_get(assignment["job_id"])).is_empty


def test_an_attempt_that_has_ended_takes_no_report(agent: AgentClient, assignment: dict[str, Any]) -> None:
    agent.finish(assignment)
    cache.clear()
    problem(agent.report(assignment, 0, PASSES), 409, "stale_attempt")


def test_a_lost_attempt_may_report_until_the_next_one_begins_and_the_newest_attempt_counts(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    first = agent.take()
    with polled(60):
        leases_expire()
        cache.clear()
        assert agent.report(first, 0, FAILS).status_code == 200
        other = enrolled(server, name="build-2")
        second = other.take()
        cache.clear()
        problem(agent.report(first, 1, FAILS), 409, "stale_attempt")
        assert job_tests(job_get(job_id)).attempt == 1
        other.report(second, 0, PASSES)
        found = job_tests(job_get(job_id))
    assert (found.attempt, found.totals.total, found.totals.failed) == (2, 1, 0)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Report_Kind": None}, "Report-Kind"),
        ({"Report_Kind": "clover"}, "Report-Kind"),
        ({"Report_File": None}, "Report-File"),
        ({"Report_File": "a b.xml"}, "Report-File"),
        ({"Report_File": "x" * 2001}, "Report-File"),
        ({"Report_Commit": "HEAD"}, "Report-Commit"),
        ({"Content_Encoding": "br"}, "Content-Encoding"),
        ({"Content_Encoding": "gzip"}, "body"),
    ],
)
def test_a_wrong_header_is_named(
    agent: AgentClient, assignment: dict[str, Any], headers: dict[str, str | None], field: str
) -> None:
    answer = problem(agent.report(assignment, 0, PASSES, **headers), 400, "invalid_input")
    assert [error["field"] for error in answer["errors"]] == [field]


def test_numbers_of_reports_are_bounded(agent: AgentClient, assignment: dict[str, Any]) -> None:
    assert agent.report(assignment, MAX_REPORTS - 1, PASSES).status_code == 200
    answer = problem(agent.report(assignment, MAX_REPORTS, PASSES), 400, "invalid_input")
    assert answer["errors"][0]["field"] == "number"


@pytest.mark.parametrize("size", [2_000_000, 4_000_000])
def test_a_report_of_some_megabytes_is_taken(agent: AgentClient, assignment: dict[str, Any], size: int) -> None:
    assert agent.report(assignment, 0, PASSES.ljust(size)).json()["total"] == 1


def test_what_is_too_large_is_refused_also_when_it_is_only_large_once_unpacked(
    agent: AgentClient, assignment: dict[str, Any]
) -> None:
    problem(agent.report(assignment, 0, b" " * 4_000_001), 413, "too_large")
    bomb = gzip.compress(b"<testsuite>" + b" " * 100_000_000, compresslevel=9)
    answer = agent.report(assignment, 0, bomb, Content_Encoding="gzip")
    assert "20,000,000" in problem(answer, 413, "report_too_large")["detail"]


@pytest.mark.parametrize("data", [b"", b"\0", b"<a/>", b"\xff" * 100, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
@pytest.mark.parametrize("kind", ["junit", "cobertura"])
def test_what_is_no_report_is_refused_with_the_reason(
    agent: AgentClient, assignment: dict[str, Any], kind: str, data: bytes
) -> None:
    answer = problem(agent.report(assignment, 0, data, Report_Kind=kind), 422, "report_invalid")
    assert answer["detail"].startswith("The report ")


# --- over several runs ----------------------------------------------------------------------------------------------


def stored(
    *cases: Case,
    run: str | None = None,
    commit: str | None = None,
    git_ref: str = "main",
    node: str = "",
    rate: float | None = None,
    pipeline: str = "self",
) -> JobReport:
    """A report of a job of its own, as the service stores it."""
    job_id = new_id()
    kind = "junit" if rate is None else "cobertura"
    report = JobReport(
        stream=reports_stream(kind, pipeline),
        place=report_place(run or job_id, job_id, 1, 0),
        run_id=run or job_id,
        job_id=job_id,
        attempt=1,
        number=0,
        node=node,
        git_ref=git_ref,
        commit=commit,
        file="report.xml",
        digest="",
        reported_at=clock.timestamp(clock.now()),
        expires_at=clock.now() + timedelta(days=90),
        **(
            {"rate": rate}
            if rate is not None
            else {"total": len(cases), "failed": 0, "skipped": 0, "cases": cases_pack(cases)[0], "size": 100}
        ),
    )
    report.save()
    return report


def named(found: list[CaseHistory]) -> list[str]:
    return [test.name for test in found]


def test_the_slowest_tests_come_first_by_their_mean_over_the_runs(pipeline: str) -> None:
    stored(Case("g", "even", Outcome.PASSED, 2.0), Case("g", "grows", Outcome.PASSED, 1.0))
    stored(Case("g", "even", Outcome.PASSED, 2.0), Case("g", "grows", Outcome.FAILED, 5.0))
    stored(Case("g", "even", Outcome.SKIPPED), Case("g", "unknown", Outcome.PASSED))
    stored(Case("g", "elsewhere", Outcome.PASSED, 99.0), pipeline="other")
    found = pipeline_tests("self")
    assert (found.runs, found.cut) == (3, False)
    first, second = found.slowest
    assert (first.name, first.seconds_mean, first.seconds_max, first.runs, first.failed) == ("grows", 3.0, 5.0, 2, 1)
    assert (second.name, second.seconds_mean, second.runs) == ("even", 2.0, 2)


def test_a_test_is_flaky_that_failed_and_passed_on_the_same_commit_or_when_it_ran_again(pipeline: str) -> None:
    passed, failed = Outcome.PASSED, Outcome.FAILED
    stored(Case("g", "same commit", failed), Case("g", "fixed", failed), Case("g", "broken", failed), commit="a1")
    last = stored(Case("g", "same commit", passed), Case("g", "broken", failed), commit="a1")
    stored(Case("g", "fixed", passed), Case("g", "broken", failed), commit="b2")
    stored(Case("g", "in one report", Outcome.FLAKY), commit="b2")
    # A cell of a matrix in which a test always fails.
    stored(Case("g", "on old Python", failed), commit="b2", node="test (3.9)")
    stored(Case("g", "on old Python", passed), commit="b2", node="test (3.13)")
    # Without a known commit, only the run itself compares.
    run = new_id()
    stored(Case("g", "in one run", failed), run=run)
    stored(Case("g", "in one run", passed), run=run)
    stored(Case("g", "anything", failed))
    stored(Case("g", "anything", passed))
    found = pipeline_tests("self")
    assert sorted(named(found.flaky)) == ["in one report", "in one run", "same commit"]
    (same,) = (test for test in found.flaky if test.name == "same commit")
    assert (same.flaky, same.failed, same.runs) == (1, 1, 2)
    assert same.failed_job_id != last.job_id


def test_the_lists_are_about_the_last_50_runs(pipeline: str, viewer: Client) -> None:
    for number in range(53):
        stored(Case("g", f"test {number}", Outcome.PASSED, float(number)))
    found = viewer.get("/pipelines/self/tests").json()
    assert (found["runs"], len(found["tests"])) == (50, 50)
    assert (found["tests"][0]["name"], found["tests"][-1]["name"]) == ("test 52", "test 3")
    assert viewer.get("/pipelines/self/tests?sort=flaky").json() == {"runs": 50, "tests": [], "cut": False}
    problem(viewer.get("/pipelines/self/tests?sort=newest"), 400, "invalid_input")
    problem(viewer.get("/pipelines/nothing/tests"), 404, "pipeline_not_found")
    problem(viewer.get("/pipelines/nothing/coverage"), 404, "pipeline_not_found")


def test_a_list_may_be_about_one_branch(pipeline: str) -> None:
    stored(Case("g", "a", Outcome.PASSED, 1.0), git_ref="feature")
    stored(Case("g", "b", Outcome.PASSED, 1.0))
    assert named(pipeline_tests("self", git_ref="feature").slowest) == ["a"]


def test_what_a_request_reads_is_bounded_and_it_says_so(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        stored(Case("g", f"test {number}", Outcome.PASSED, 1.0))
    monkeypatch.setattr(reports, "_BYTES_AT_MOST", 250)
    found = pipeline_tests("self")
    # Two are read, and the second one may not be all of its run.
    assert (found.runs, found.cut) == (1, True)


def test_coverage_is_one_number_with_its_trend(pipeline: str, viewer: Client) -> None:
    for rate in (0.5, 0.75):
        stored(rate=rate)
    stored(rate=0.1, git_ref="feature")
    run = new_id()
    stored(run=run, node="front", rate=0.7)
    stored(run=run, node="back", rate=0.9)
    found = viewer.get("/pipelines/self/coverage?git_ref=main").json()
    assert [round(entry["coverage"]["rate"], 3) for entry in found["runs"]] == [0.5, 0.75, 0.8]
    assert (round(found["rate"], 3), round(found["change"], 3)) == (0.8, 0.05)
    assert len(viewer.get("/pipelines/self/coverage").json()["runs"]) == 4
    empty = viewer.get("/pipelines/self/coverage?git_ref=x").json()
    assert empty == {"rate": None, "change": None, "runs": []}


def test_of_jobs_that_ran_again_in_their_run_the_newest_counts(pipeline: str) -> None:
    run = new_id()
    stored(Case("g", "a", Outcome.FAILED), run=run, node="test")
    newest = stored(Case("g", "a", Outcome.PASSED), run=run, node="test")
    stored(Case("g", "a", Outcome.PASSED), run=run, node="lint")
    stored(run=run, node="test", rate=0.2)
    stored(run=run, node="test", rate=0.4)
    assert [job.node for job in run_tests(pipeline="self", run_id=run)] == ["lint", "test"]
    assert newest.node == "test"
    (point,) = pipeline_coverage("self").points
    assert point.coverage.rate == 0.4


def test_a_report_has_the_name_of_its_job_in_the_run(agent: AgentClient, assignment: dict[str, Any]) -> None:
    job = job_get(assignment["job_id"])
    agent.report(assignment, 0, PASSES)
    # As the job of a graph has it.
    job.update(actions=[Job.node.set("test (3.13)")])
    cache.clear()
    agent.report(assignment, 1, PASSES)
    nodes = [report.node for report in JobReport.query(reports_stream("junit", "self"))]
    assert nodes == ["", "test (3.13)"]


def test_reports_expire_after_90_days(agent: AgentClient, assignment: dict[str, Any]) -> None:
    agent.report(assignment, 0, PASSES)
    agent.report(assignment, 1, coverage(0.5), Report_Kind="cobertura")
    job = job_get(assignment["job_id"])
    with clock.shifted(timedelta(days=89)):
        assert not job_tests(job).is_empty
    with clock.shifted(timedelta(days=91)):
        assert job_tests(job).is_empty
        assert pipeline_tests("self").runs == 0
        assert pipeline_coverage("self").points == []


def test_many_failures_are_counted_and_the_first_ones_are_shown(
    agent: AgentClient, assignment: dict[str, Any], viewer: Client
) -> None:
    def failing(names: Sequence[int]) -> bytes:
        cases = "".join(f'<testcase name="t{name}"><failure message="m"/></testcase>' for name in names)
        return f"<testsuite>{cases}</testsuite>".encode()

    for number in range(3):
        agent.report(assignment, number, failing(range(120)))
    found = viewer.get(f"/jobs/{assignment['job_id']}/tests").json()
    assert (found["totals"]["failed"], len(found["failures"]), found["cut"]) == (360, 200, True)
