"""Jobs from real repositories, run by the real agent."""

import os
import time
from pathlib import Path

import pytest

from apps.jobs.services import logs_archive
from tests.endtoend.conftest import Product, Repository, wait_for


def test_a_branch_a_tag_and_a_commit_each_run_what_they_name(product: Product, repository: Repository) -> None:
    repository.commit("one", word="first")
    repository.define('cat word; echo " ref $HYBRID_CI_GIT_REF"')
    first = repository.git("rev-parse", "HEAD")
    repository.commit("two", word="second")
    repository.git("tag", "v1")
    repository.git("push", "-q", "origin", "v1")
    repository.commit("three", word="third")
    product.pipeline(repository.url)
    product.start_agent("one", "--slots", "3")
    jobs = {ref: product.queue(git_ref=ref) for ref in (first, "v1", "main")}
    for (ref, job_id), word in zip(jobs.items(), ("first", "second", "third"), strict=True):
        job = product.until_ended(job_id)
        assert (job["status"], job["exit_code"]) == ("completed", 0), product.log(job_id)
        assert f"{word} ref {ref}".encode() in product.log(job_id)
        assert job["commit"] == repository.git("rev-parse", f"{ref}^{{commit}}")
        assert [step["state"] for step in job["steps"]] == ["completed"]


def test_a_failing_step_fails_the_job_and_skips_the_rest(product: Product, repository: Repository) -> None:
    repository.define("echo fine", "echo broken >&2; exit 3", "echo never")
    product.pipeline(repository.url)
    product.start_agent("one")
    job = product.until_ended(job_id := product.queue())
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    assert [step["state"] for step in job["steps"]] == ["completed", "failed", "skipped"]
    assert b"broken" in product.log(job_id)
    assert b"never" not in product.log(job_id)


@pytest.mark.slow
def test_twenty_megabytes_arrive_whole_also_from_storage(product: Product, repository: Repository) -> None:
    repository.define("seq -f '%019.0f' 1 1048576")
    product.pipeline(repository.url)
    product.start_agent("one")
    job = product.until_ended(job_id := product.queue(), seconds=120)
    assert job["status"] == "completed"
    printed = product.log(job_id)
    lines = [line for line in printed.split(b"\n") if len(line) == 19 and line.isdigit()]
    assert lines == [b"%019d" % number for number in range(1, 1048577)]
    assert logs_archive() == 1
    assert product.log(job_id) == printed


def test_bytes_that_are_no_text_arrive_as_they_were(product: Product, repository: Repository) -> None:
    repository.define("printf '\\377\\376\\000\\200 raw \\303\\n'")
    product.pipeline(repository.url)
    product.start_agent("one")
    product.until_ended(job_id := product.queue())
    assert b"\xff\xfe\x00\x80 raw \xc3\n" in product.log(job_id)


def test_a_step_that_exceeds_its_time_limit_ends_as_timed_out(product: Product, repository: Repository) -> None:
    repository.commit("slow", **{"__hybrid-ci__yml": "steps:\n  - name: slow\n    run: sleep 600\n    timeout: 1\n"})
    product.pipeline(repository.url)
    product.start_agent("one")
    job = product.until_ended(product.queue())
    assert job["status"] == "timed_out"
    assert job["steps"][0]["state"] == "timed_out"
    assert "time limit" in job["error_message"]


def test_a_daemon_that_a_step_forks_does_not_outlive_the_job(product: Product, repository: Repository) -> None:
    repository.define(
        "setsid sh -c 'echo $$ > /tmp/daemon-$HYBRID_CI_JOB_ID; exec sleep 600' >/dev/null 2>&1 &\nsleep 0.5"
    )
    product.pipeline(repository.url)
    product.start_agent("one")
    job = product.until_ended(job_id := product.queue())
    assert job["status"] == "completed"
    note = Path(f"/tmp/daemon-{job_id}")
    pid = int(note.read_text())
    note.unlink()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_running_job_is_cancelled_within_a_heartbeat(product: Product, repository: Repository) -> None:
    repository.define("while true; do echo tick; sleep 0.2; done", "echo never")
    product.pipeline(repository.url)
    product.start_agent("one")
    product.until(job_id := product.queue(), "running")
    wait_for(lambda: b"tick" in product.log(job_id))
    assert product.client.post(f"/jobs/{job_id}/cancel").status_code == 200
    began = time.monotonic()
    job = product.until_ended(job_id)
    assert job["status"] == "cancelled"
    assert time.monotonic() - began < 12
    assert [step["state"] for step in job["steps"]] == ["cancelled", "skipped"]


@pytest.mark.parametrize(
    ("url", "ref", "message"),
    [
        ("file:///nowhere/at/all.git", "main", "could not be fetched"),
        (None, "no-such-branch", "could not be fetched"),
    ],
    ids=["no repository", "no ref"],
)
def test_what_cannot_be_fetched_fails_with_a_reason(
    product: Product, repository: Repository, url: str | None, ref: str, message: str
) -> None:
    repository.define("true")
    product.pipeline(url or repository.url)
    product.start_agent("one")
    job = product.until_ended(job_id := product.queue(git_ref=ref))
    assert job["status"] == "failed"
    assert message in job["error_message"]
    assert message.encode() in product.log(job_id)


def test_a_wrong_pipeline_file_fails_with_line_and_field(product: Product, repository: Repository) -> None:
    repository.commit("wrong", **{"__hybrid-ci__yml": "steps:\n  - name: x\n    runn: true\n"})
    product.pipeline(repository.url)
    product.start_agent("one")
    job = product.until_ended(job_id := product.queue())
    assert job["status"] == "failed"
    assert b"line 3" in product.log(job_id)
    assert "runn" in job["error_message"]


def test_steps_show_their_states_while_the_job_runs(product: Product, repository: Repository) -> None:
    repository.define("echo one", "sleep 8", "echo three")
    product.pipeline(repository.url)
    product.start_agent("one")
    job_id = product.queue()
    wait_for(lambda: [step["state"] for step in product.job(job_id)["steps"]] == ["completed", "running", "pending"])
    product.client.post(f"/jobs/{job_id}/cancel")
    product.until_ended(job_id)
