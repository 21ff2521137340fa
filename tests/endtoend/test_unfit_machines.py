"""A machine that cannot run jobs, among others that can."""

import contextlib
from pathlib import Path

from tests.endtoend.conftest import Product, Repository, wait_for


def test_an_agent_whose_disk_fills_up_fails_no_job_and_is_unhealthy_until_there_is_room(
    product: Product, repository: Repository, disk: Path
) -> None:
    repository.define("sleep 0.3; echo done", retries="0")
    product.pipeline(repository.url)
    product.start_agent("bad", f"--work-dir={disk}", "--slots=2")
    jobs = [product.queue() for _ in range(12)]
    wait_for(lambda: any(product.job(job_id)["status"] == "completed" for job_id in jobs))
    filler = disk / "filler"
    # Jobs write to the disk meanwhile.
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024 * 1024)):
            pass
    bad = wait_for(lambda: next((a for a in product.agent_list() if a["status"] == "unhealthy"), None))
    assert bad["name"] == "bad"
    assert "100 MiB" in bad["status_reason"] or "No space left on device" in bad["status_reason"]
    product.start_agent("good", "--slots=2")
    # A job that was offered in the moment when the disk became full is released after a minute.
    assert [product.until_ended(job_id, seconds=90)["status"] for job_id in jobs] == ["completed"] * 12
    filler.unlink()
    wait_for(lambda: all(agent["status"] == "healthy" for agent in product.agent_list()), seconds=50)
