"""What checks say: states, names, titles and texts, without a database."""

from typing import Any

import pytest

from apps.jobs.models import RUN, Job, Run, RunNode
from apps.jobs.reports.results import Coverage, Failure, Totals
from apps.jobs.run_graph import GraphJob
from apps.jobs.selectors.reports import FailedTest, JobTests
from apps.jobs.services.check_contents import (
    check_name,
    code,
    code_block,
    failure_place,
    graph_summary,
    graph_title,
    job_check,
    job_state,
    job_summary,
    job_title,
    run_check,
)
from apps.jobs.states import Status
from apps.pipelines.definitions import Node


def run(**members: Any) -> Run:
    given = {
        "pipeline": "web",
        "checks_repository": "acme/shop",
        "checks_commit": "c0ffee",
        "created_at": "",
        **members,
    }
    return Run("01run", RUN, **given)


def job(status: Status, **members: Any) -> Job:
    return Job(job_id="01job", run_id="01run", node="test", status=status, **members)


def reported(*failures: Failure, total: int = 5, coverage: Coverage | None = None) -> JobTests:
    found = [FailedTest("out/junit.xml", failure) for failure in failures]
    return JobTests("01job", "test", 1, Totals(total, len(failures), 1), [], found, coverage, cut=False)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (Status.WAITING, "queued"),
        (Status.QUEUED, "queued"),
        (Status.ASSIGNED, "queued"),
        (Status.RUNNING, "in_progress"),
        (Status.COMPLETED, "success"),
        (Status.FAILED, "failure"),
        (Status.TIMED_OUT, "timed_out"),
        (Status.CANCELLED, "cancelled"),
        (Status.SKIPPED, "skipped"),
    ],
)
def test_each_status_of_a_job_is_a_state_of_its_check(status: Status, word: str) -> None:
    assert job_state(status).word == word
    allowed = "neutral" if word in ("failure", "timed_out") else word
    assert job_state(status, allow_failure=True).word == allowed


def test_the_names_of_checks_do_not_change_and_fit() -> None:
    assert check_name(run()) == "hybrid-ci/web"
    assert check_name(run(), "test (3.12)") == "hybrid-ci/web/test (3.12)"
    assert check_name(run(pull_request=7), "test") == "hybrid-ci/web/test (pull request)"
    long = check_name(run(pull_request=7), "x" * 300)
    assert len(long) == 255
    assert long.endswith("… (pull request)")


@pytest.mark.parametrize(
    ("job", "reason", "title"),
    [
        (job(Status.WAITING), None, "Waiting for other jobs"),
        (Job(node="#first", status=Status.WAITING), None, "Waiting until the pipeline is resumed"),
        (job(Status.QUEUED), None, "Waiting for an agent"),
        (job(Status.RUNNING, agent_name="build-1"), None, "Running on build-1"),
        (job(Status.COMPLETED, reused_from="01old"), None, "Passed before with the same inputs"),
        (job(Status.SKIPPED), "build failed", "Skipped: build failed"),
        (
            job(Status.FAILED, exit_code=2, started_at="2026-11-27T10:00:00Z", completed_at="2026-11-27T11:02:03Z"),
            None,
            "Failed with exit code 2 after 1 h 2 min",
        ),
        (
            job(Status.COMPLETED, started_at="2026-11-27T10:00:00Z", completed_at="2026-11-27T10:01:05Z"),
            None,
            "Passed after 1 min 5 s",
        ),
        (job(Status.TIMED_OUT), None, "Timed out"),
    ],
)
def test_a_title_says_how_far_the_job_is(job: Job, reason: str | None, title: str) -> None:
    assert job_title(job, reason) == title


def test_a_summary_has_the_error_the_failed_steps_and_the_tests() -> None:
    steps = [{"name": "make test", "state": "failed"}, {"name": "ship", "state": "skipped"}]
    failed = job(Status.FAILED, error_message="it broke", steps=steps)
    found = reported(Failure("cart", "test_add", 0.1, "no", ""), coverage=Coverage(0.8125))
    assert job_summary(failed, found) == (
        "```text\nit broke\n```\n\nThe step `make test` failed.\n\n"
        "**Tests:** 3 of 5 passed, 1 failed, 1 skipped.\n\n**Coverage:** 81.2 % of the lines.\n\n- `cart: test_add`"
    )
    assert job_summary(job(Status.RUNNING, error_message="of an attempt before"), None) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`all`", "`` `all` ``"),
        ("two\nlines\n# no heading", "`two lines # no heading`"),
        ("[link](http://evil.example) @octo", "`[link](http://evil.example) @octo`"),
    ],
)
def test_texts_of_others_are_code_and_no_markup(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_block_of_code_ends_where_we_end_it() -> None:
    assert code_block("```\n</details> **x**") == "````text\n```\n</details> **x**\n````"


@pytest.mark.parametrize(
    ("details", "place"),
    [
        ("def test():\n>  assert 1 == 2\nE  assert\n\ntests/test_a.py:12: AssertionError", ("tests/test_a.py", 12)),
        ("    at Object.<anonymous> (src/cart.test.js:7:19)", ("src/cart.test.js", 7)),
        ("    cart_test.go:31: got 1, want 2", ("cart_test.go", 31)),
        ("./spec/cart_spec.rb:4:in `block'", ("spec/cart_spec.rb", 4)),
        ("node_modules/jest/build/index.js:1:1\n  src/a.test.ts:3:4", ("src/a.test.ts", 3)),
        ("/home/ci/work/tests/test_a.py:12: AssertionError", None),
        ("../../etc/passwd.txt:1", None),
        ("C:\\work\\a.cs:3", None),
        ("https://example.com:443 at 12:30:05", None),
        ("no place at all", None),
        ("a.py:0", None),
    ],
)
def test_a_failed_test_is_at_the_first_line_of_the_repository_that_is_printed(
    details: str, place: tuple[str, int] | None
) -> None:
    assert failure_place(details) == place


def test_looking_for_a_line_takes_no_time_whatever_is_printed() -> None:
    assert failure_place("a/" * 2_000) is None
    assert failure_place("a." * 2_000) is None


def test_a_test_without_a_line_is_at_its_report() -> None:
    (one,) = _check(reported(Failure("", "adds", None, "", ""))).annotations
    assert (one.path, one.line, one.title, one.message) == ("out/junit.xml", 1, "adds", "It failed without a message.")


def _check(found: JobTests) -> Any:
    ended = job(Status.FAILED, started_at="2026-11-27T10:00:00.123456Z", completed_at="2026-11-27T10:00:02Z")
    return job_check(
        run(), ended, state=job_state(Status.FAILED), reason=None, tests=found, base_url="https://ci.example"
    )


def test_a_check_of_a_job_leads_to_its_page_and_has_its_times() -> None:
    check = _check(reported())
    assert check.details_url == "https://ci.example/dashboard/jobs/01job"
    assert (check.started_at, check.completed_at) == ("2026-11-27T10:00:00Z", "2026-11-27T10:00:02Z")
    assert (check.external_id, check.commit, check.repository) == ("01job", "c0ffee", "acme/shop")


@pytest.mark.parametrize(
    ("members", "ref"),
    [
        ({"git_ref": "main"}, "main"),
        ({"git_ref": "refs/heads/main"}, "main"),
        ({"git_ref": "refs/tags/v1"}, "v1"),
        ({"git_ref": "refs/merge-requests/7/head", "pull_request": 7, "trigger": {"branch": "coupon"}}, "coupon"),
        (
            {"git_ref": "refs/merge-requests/7/head", "pull_request": 7, "is_fork": True, "trigger": {"branch": "x"}},
            "refs/merge-requests/7/head",
        ),
    ],
)
def test_a_check_names_the_branch_or_tag_that_it_is_about(members: dict[str, Any], ref: str) -> None:
    only = job(Status.QUEUED)
    check = run_check(
        run(**members), state=job_state(Status.QUEUED), only=only, jobs=[], nodes={}, tests=None, base_url=""
    )
    assert check.ref == ref


def test_a_run_with_a_graph_says_how_many_jobs_ended_how_and_links_those_that_did_not_pass() -> None:
    names = {"build": Status.COMPLETED, "test": Status.FAILED, "ship": Status.SKIPPED}
    jobs = [GraphJob(Node(name, name), f"01{name}") for name in names]
    nodes = {name: RunNode("01run", f"job#{name}", job_id=f"01{name}", state=state) for name, state in names.items()}
    nodes["ship"].reason = "test failed"
    assert graph_title(jobs, nodes) == "3 jobs: 1 passed, 1 failed, 1 skipped"
    assert graph_summary(jobs, nodes, "https://ci.example") == (
        "- [`test`](https://ci.example/dashboard/jobs/01test) failed\n"
        "- [`ship`](https://ci.example/dashboard/jobs/01ship) skipped: `test failed`"
    )
    ended = run(status="failed", created_at="2026-11-27T10:00:00Z", completed_at="2026-11-27T10:00:02Z")
    check = run_check(ended, state=job_state(Status.FAILED), only=None, jobs=jobs, nodes=nodes, tests=None, base_url="")
    assert (check.details_url, check.name, check.external_id) == (None, "hybrid-ci/web", "01run")
    assert check.summary.startswith("- `test` failed")
