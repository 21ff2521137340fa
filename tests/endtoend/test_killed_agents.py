"""Agents that are killed while their logs are not delivered, and start again."""

import pytest

from apps.jobs.agent_api import attempts
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from tests.endtoend.conftest import Product, Repository, wait_for
from tests.endtoend.test_agents_lost import LATER
from tests.live_files import files_with


def test_what_was_printed_before_kill_9_is_delivered_before_the_attempt_is_lost(
    product: Product, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = product.tmp_path / "stop"
    repository.define(
        f'seq 1 50000; printf "attempt $HYBRID_CI_ATTEMPT printed this"; while [ ! -e {stop} ]; do sleep 0.1; done'
    )
    product.pipeline(repository.url)

    def refuse(**_: object) -> None:
        raise Unavailable

    with monkeypatch.context() as context:
        context.setattr(attempts, "log_append", refuse)
        killed = product.start_agent("one")
        job_id = product.queue()
        spool = killed.state_dir / "spool"
        wait_for(lambda: files_with([b"1 printed this"], spool))
        killed.kill()
        # A request that the agent sent before may still be answered.
        assert b"printed" not in product.log(job_id)
    product.start_agent("one", wait=False)
    wait_for(lambda: b"attempt 1 printed this" in product.log(job_id))
    with clock.shifted(LATER):
        # Heartbeats do not name the attempt any more, so it is lost after its lease.
        wait_for(lambda: b"attempt 2 printed this" in product.log(job_id))
        stop.touch()
        job = product.until_ended(job_id)
    assert (job["status"], job["attempt"]) == ("completed", 2)
    log = product.log(job_id)
    assert log.count(b"\n49999\n50000\n") == 2
    assert log.index(b"\n50000\nattempt 1 printed this") < log.index(b"\n50000\nattempt 2 printed this")
