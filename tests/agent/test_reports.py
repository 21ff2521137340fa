"""Test results and coverage that jobs of the real agent program report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent import job_reports
from apps.jobs.agent_api.reports import REPORT_BODY_LIMIT
from apps.jobs.reports.results import MAX_REPORTS, REPORT_LIMIT, ReportKind
from tests.agent.conftest import AgentProcess, History
from tests.agent.fake_server import LOSE, FakeControlPlane

JUNIT = "<testsuite><testcase name='a'/></testsuite>"
WANTED = {"junit": ["out/**/TEST-*.xml"], "coverage": "coverage.xml"}


@pytest.fixture
def run(shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History) -> Any:
    """Run a job with this script that reports what WANTED names, or something else; returns it once it has ended."""

    def run(script: str, reports: dict[str, Any] = WANTED, **arguments: Any) -> Any:
        job = shared_plane.add_job(history.url, run=script, wanted_reports=reports, **arguments)
        shared_plane.finished(job, 30)
        assert shared_plane.problems == []
        return job

    return run


def test_reports_are_sent_after_the_steps_and_the_log_says_what_is_in_them(run: Any) -> None:
    job = run(
        f'mkdir -p out/a "out/b c"; echo "{JUNIT}1" > out/a/TEST-1.xml; echo "{JUNIT}2" > "out/b c/TEST-é.xml"; '
        "echo no > out/other.xml; echo coverage > coverage.xml"
    )
    assert job.reported == {
        0: ("junit", "out/a/TEST-1.xml", f"{JUNIT}1\n".encode()),
        1: ("junit", "out/b%20c/TEST-%C3%A9.xml", f"{JUNIT}2\n".encode()),
        2: ("cobertura", "coverage.xml", b"coverage\n"),
    }
    lines = job.text.splitlines()
    assert lines[-2:] == ["── tests: 6 in 2 files, 2 failed, 0 skipped", "── coverage: 87.5% of the lines"]
    assert job.finish["exit_code"] == 0


def test_reports_are_sent_also_when_a_step_has_failed(run: Any) -> None:
    job = run(f'mkdir out; echo "{JUNIT}" > out/TEST-1.xml; exit 3')
    assert list(job.reported) == [0]
    assert job.finish["exit_code"] == 3
    assert "no file matches coverage.xml" in job.text


def test_reports_are_sent_also_when_the_jobs_time_was_over(run: Any) -> None:
    job = run(f'mkdir out; echo "{JUNIT}" > out/TEST-1.xml; sleep 60', timeout=1.0)
    assert list(job.reported) == [0]
    assert "time limit" in job.finish["error_message"]


def test_a_report_that_is_refused_is_named_in_the_log_and_does_not_fail_the_job(run: Any) -> None:
    job = run(f'mkdir out; echo broken > out/TEST-1.xml; echo "{JUNIT}" > out/TEST-2.xml')
    assert "── out/TEST-1.xml is not reported: The report is not valid XML." in job.text
    assert [report[1] for report in job.reported.values()] == ["out/TEST-2.xml"]
    assert job.finish["exit_code"] == 0


def test_a_report_whose_answer_was_lost_is_sent_again(run: Any, shared_plane: FakeControlPlane) -> None:
    shared_plane.fail("/reports/", LOSE)
    shared_plane.fail("/reports/", 503, code="unavailable")
    job = run(f'mkdir out; echo "{JUNIT}" > out/TEST-1.xml')
    assert list(job.reported) == [0]


@pytest.mark.parametrize("pattern", ["../*.xml", "/etc/*", "out/../../x.xml", "~/x.xml"])
def test_no_pattern_leads_out_of_the_workspace(run: Any, pattern: str) -> None:
    job = run("true", {"junit": [pattern], "coverage": pattern})
    assert job.reported == {}
    assert job.text.count("must be a path in the workspace") == 2
    assert job.finish["exit_code"] == 0


def test_no_link_is_followed_and_nothing_but_files_is_read(run: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text("secret")
    folder = tmp_path / "TEST-folder"
    folder.mkdir()
    (folder / "TEST-in.xml").write_text("secret")
    job = run(
        f"mkdir out; ln -s {secret} out/TEST-a.xml; ln -s {folder} out/TEST-b; mkfifo out/TEST-c.xml; "
        f'ln -s out d; echo "{JUNIT}" > out/TEST-d.xml; mkdir out/TEST-e.xml; ln -s {secret} coverage.xml'
    )
    assert [report[1] for report in job.reported.values()] == ["out/TEST-d.xml"]
    assert "── out/TEST-a.xml is not reported: it is a link, which the agent does not follow" in job.text
    assert "── coverage.xml is not reported: it is a link, which the agent does not follow" in job.text


def test_a_file_that_is_too_large_is_named_in_the_log(run: Any) -> None:
    job = run("mkdir out; head -c 20000001 /dev/zero > out/TEST-1.xml; head -c 5000000 /dev/urandom > coverage.xml")
    assert job.reported == {}
    assert "── out/TEST-1.xml is not reported: it has more than 20,000,000 bytes" in job.text
    assert "── coverage.xml is not reported: it has more than 4,000,000 bytes after compression" in job.text


def test_of_too_many_files_the_first_ones_are_sent(run: Any) -> None:
    job = run(
        'mkdir out; for n in $(seq 1000 1320); do echo "<testsuite/>" > out/TEST-$n.xml; done; echo x>coverage.xml'
    )
    assert len(job.reported) == 300
    assert job.reported[299][0] == "cobertura"
    assert "── more than 299 files match out/**/TEST-*.xml; the others are not reported" in job.text


def test_names_of_files_command_no_terminal(run: Any) -> None:
    job = run("""mkdir out; name=$(printf 'out/TEST-\\033[31m\\n.xml'); echo broken > "$name" """)
    (line,) = re.findall(".* is not reported: .*", job.text)
    assert "\033" not in line
    assert line.startswith("── out/TEST-�[31m")


def test_a_cancelled_job_reports_nothing(
    shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History
) -> None:
    job = shared_plane.add_job(
        history.url, run=f'mkdir out; echo "{JUNIT}" > out/TEST-1.xml; echo begun; sleep 60', wanted_reports=WANTED
    )
    shared_plane.wait_for_output(job, "begun")
    job.command = "cancel"
    shared_plane.finished(job, 30)
    assert job.reported == {}


def test_an_attempt_that_was_given_to_another_agent_stops_reporting(
    shared_plane: FakeControlPlane, shared_agent: AgentProcess, history: History
) -> None:
    shared_plane.fail("/reports/", 409, code="stale_attempt")
    job = shared_plane.add_job(
        history.url,
        run=f'mkdir out; for n in 1 2 3; do echo "{JUNIT}" > out/TEST-$n.xml; done',
        wanted_reports=WANTED,
    )
    shared_plane.finished(job, 30)
    assert job.reported == {}


def test_the_limits_are_the_control_planes() -> None:
    assert (job_reports.MAX_FILES, job_reports.MAX_BYTES) == (MAX_REPORTS, REPORT_LIMIT)
    assert job_reports.MAX_PACKED_BYTES == REPORT_BODY_LIMIT
    assert {job_reports.JUNIT, job_reports.COBERTURA} == set(ReportKind)
