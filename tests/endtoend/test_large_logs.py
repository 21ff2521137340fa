"""A log of megabytes, from the agent's machine to a person."""

import pytest

from apps.jobs.services import logs_archive
from tests.endtoend.conftest import Product, Repository


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
