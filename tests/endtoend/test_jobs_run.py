"""Jobs from real repositories, run by the real agent."""

import os
import time
from pathlib import Path

import pytest

from tests.endtoend.conftest import Product, Repository, wait_for


@pytest.fixture
def product(shared_product: Product) -> Product:
    return shared_product


def test_a_branch_a_tag_and_a_commit_each_run_what_they_name(product: Product, repository: Repository) -> None:
    repository.commit(word="first")
    first = repository.define('cat word; echo " ref $HYBRID_CI_GIT_REF"')
    second = repository.commit(word="second")
    repository.name("refs/tags/v1")
    third = repository.commit(word="third")
    product.pipeline(repository.url)
    jobs = {ref: product.queue(git_ref=ref) for ref in (first, "v1", "main")}
    expected = [(first, "first"), (second, "second"), (third, "third")]
    for (ref, job_id), (commit, word) in zip(jobs.items(), expected, strict=True):
        job = product.until_ended(job_id)
        assert (job["status"], job["exit_code"]) == ("completed", 0), product.log(job_id)
        assert f"{word} ref {ref}".encode() in product.log(job_id)
        assert job["commit"] == commit
        assert [step["state"] for step in job["steps"]] == ["completed"]


def test_refs_of_any_script_run_what_they_name_also_where_the_machine_has_no_locale(
    product: Product, repository: Repository
) -> None:
    branch, tag = "функция/ünïcode", "v1-🚀"
    commit = repository.define('printf "ref %s\\n" "$HYBRID_CI_GIT_REF"')
    repository.name(f"refs/heads/{branch}", f"refs/tags/{tag}")
    product.pipeline(repository.url)
    # As a program sends it in a body, and as curl sends it in an address.
    jobs = {branch: product.queue(git_ref=branch)}
    answer = product.client.post("/jobs", params={"git_ref": tag})
    assert answer.status_code == 201, answer.text
    jobs[tag] = answer.json()["job_id"]
    for ref, job_id in jobs.items():
        job = product.until_ended(job_id)
        assert (job["status"], job["git_ref"]) == ("completed", ref), product.log(job_id)
        assert f"ref {ref}".encode() in product.log(job_id)
        assert job["commit"] == commit
        listed = product.client.get("/jobs", params={"git_ref": ref}).json()
        assert ([found["job_id"] for found in listed["jobs"]], listed["total"]) == ([job_id], 1)
    # Both are in the agent's mirror now.
    again = product.until_ended(product.queue(git_ref=branch))
    assert again["status"] == "completed"


def test_a_file_for_another_product_fails_the_job_with_a_page_that_shows_what_to_write_instead(
    product: Product, repository: Repository
) -> None:
    workflow = "on: push\njobs:\n  build:\n    runs-on: linux\n    steps: [{run: make}]\n"
    repository.commit(**{"__hybrid-ci__yml": workflow})
    product.pipeline(repository.url)
    job = product.until_ended(job_id := product.queue())
    assert job["status"] == "failed"
    named, explained, *others = job["error_message"].splitlines()
    assert named.endswith("is not valid:")
    assert "GitHub Actions; its page /docs/other-ci shows what to write instead" in explained
    assert any("jobs.build.runs-on" in mistake for mistake in others)
    assert b"/docs/other-ci" in product.log(job_id)


def test_a_failing_step_fails_the_job_and_skips_the_rest(product: Product, repository: Repository) -> None:
    repository.define("echo fine", "echo broken >&2; exit 3", "echo never")
    product.pipeline(repository.url)
    job = product.until_ended(job_id := product.queue())
    assert (job["status"], job["exit_code"]) == ("failed", 3)
    assert [step["state"] for step in job["steps"]] == ["completed", "failed", "skipped"]
    assert b"broken" in product.log(job_id)
    assert b"never" not in product.log(job_id)


def test_bytes_that_are_no_text_arrive_as_they_were(product: Product, repository: Repository) -> None:
    repository.define("printf '\\377\\376\\000\\200 raw \\303\\n'")
    product.pipeline(repository.url)
    product.until_ended(job_id := product.queue())
    assert b"\xff\xfe\x00\x80 raw \xc3\n" in product.log(job_id)


def test_a_step_that_exceeds_its_time_limit_ends_as_timed_out(product: Product, repository: Repository) -> None:
    repository.commit(**{"__hybrid-ci__yml": "steps:\n  - name: slow\n    run: sleep 600\n    timeout: 1\n"})
    product.pipeline(repository.url)
    job = product.until_ended(product.queue())
    assert job["status"] == "timed_out"
    assert job["steps"][0]["state"] == "timed_out"
    assert "time limit" in job["error_message"]


def test_a_daemon_that_a_step_forks_does_not_outlive_the_job(product: Product, repository: Repository) -> None:
    repository.define(
        "setsid sh -c 'echo $$ > /tmp/daemon-$HYBRID_CI_JOB_ID; exec sleep 600' >/dev/null 2>&1 &\nsleep 0.5"
    )
    product.pipeline(repository.url)
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
    job = product.until_ended(job_id := product.queue(git_ref=ref))
    assert job["status"] == "failed"
    assert message in job["error_message"]
    assert message.encode() in product.log(job_id)


def test_a_wrong_pipeline_file_fails_with_line_and_field(product: Product, repository: Repository) -> None:
    repository.commit(**{"__hybrid-ci__yml": "steps:\n  - name: x\n    runn: true\n"})
    product.pipeline(repository.url)
    job = product.until_ended(job_id := product.queue())
    assert job["status"] == "failed"
    assert b"line 3" in product.log(job_id)
    assert "runn" in job["error_message"]


def test_steps_show_their_states_while_the_job_runs(product: Product, repository: Repository) -> None:
    repository.define("echo one", "sleep 8", "echo three")
    product.pipeline(repository.url)
    job_id = product.queue()
    wait_for(lambda: [step["state"] for step in product.job(job_id)["steps"]] == ["completed", "running", "pending"])
    product.client.post(f"/jobs/{job_id}/cancel")
    product.until_ended(job_id)
