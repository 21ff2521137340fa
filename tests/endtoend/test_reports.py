"""Test results and coverage of real test runs, from the job's workspace to the API."""

import sys
from typing import Any

from apps.jobs.models import Job
from apps.jobs.selectors import job_get
from tests.endtoend.conftest import Product, Repository, wait_for

TESTS = """\
import time

import pytest

def test_adds():
    assert 1 + 1 == 2

def test_is_slow():
    time.sleep(0.3)

@pytest.mark.skip(reason="later")
def test_later(): ...

def test_is_flaky():
    assert open("../lucky").read() == "yes", "<b>no luck</b>"
"""
COVERAGE = '<coverage lines-covered="3" lines-valid="4" line-rate="0.75"/>'
REPORTS = {"junit": ["out/*.xml"], "coverage": "coverage.xml"}


def queue(product: Product, lucky: str) -> str:
    job_id = product.queue(env={"LUCKY": lucky})
    job = job_get(job_id)
    job.update(actions=[Job.definition.set({**job.definition, "reports": REPORTS})])
    return job_id


def results(product: Product, job_id: str) -> Any:
    assert product.until_ended(job_id)["status"] in ("completed", "failed"), product.log(job_id)
    return product.client.get(f"/jobs/{job_id}/tests").json()


def test_the_junit_xml_and_the_coverage_that_a_job_names_are_read(product: Product, repository: Repository) -> None:
    repository.commit(test_it__py=TESTS)
    lines = (
        # Those of the tests around it take longer to import than all else.
        "export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
        'printf "$LUCKY" > ../lucky',
        f"echo '{COVERAGE}' > coverage.xml",
        f"{sys.executable} -m pytest -q -p no:cacheprovider --rootdir=. --junit-xml=out/junit.xml",
    )
    script = "".join(f"      {line}\n" for line in lines)
    product.pipeline(repository.url, definition=f"steps:\n  - name: test\n    run: |\n{script}")
    jobs = [queue(product, lucky) for lucky in ("no", "yes")]
    product.start_agent("one")
    unlucky, fine = (results(product, job_id) for job_id in jobs)
    assert (unlucky["totals"]["total"], unlucky["totals"]["failed"], unlucky["totals"]["skipped"]) == (4, 1, 1)
    (failure,) = unlucky["failures"]
    assert (failure["file"], failure["group"], failure["name"]) == ("out/junit.xml", "test_it", "test_is_flaky")
    assert "<b>no luck</b>" in failure["message"]
    assert "def test_is_flaky" in failure["details"]
    assert failure["seconds"] >= 0
    assert (fine["totals"]["failed"], fine["coverage"]["rate"]) == (0, 0.75)
    assert "── tests: 4 in 1 file, 1 failed, 1 skipped".encode() in product.log(jobs[0])

    def listed(sort: str) -> Any:
        return product.client.get(f"/pipelines/self/tests?sort={sort}").json()["tests"]

    (flaky,) = wait_for(lambda: listed("flaky"))
    assert (flaky["name"], flaky["flaky"], flaky["failed_job_id"]) == ("test_is_flaky", 1, jobs[0])
    assert listed("slowest")[0]["name"] == "test_is_slow"
    assert [point["coverage"]["rate"] for point in product.client.get("/pipelines/self/coverage").json()["runs"]] == [
        0.75,
        0.75,
    ]
