"""What is measured of queue and fleet each minute."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.jobs.services import gauges_measure
from controlplane.lib import clock, metric_names
from controlplane.lib.work import Work, at_work
from tests.signing import enrolled


def test_the_waiting_jobs_the_longest_wait_and_the_agents_of_each_status(
    server: str, make_job: Callable[..., str]
) -> None:
    enrolled(server)
    enrolled(server)
    make_job()
    make_job(labels=["gpu"])
    with clock.shifted(timedelta(seconds=90)), at_work(Work("gauges")) as work:
        gauges_measure()
    measured = dict(work.measures)
    assert len(measured) == len(work.measures)
    assert measured[metric_names.QUEUE_DEPTH] == 2
    assert measured[metric_names.OLDEST_WAIT] == pytest.approx(90, abs=5)
    assert {status: measured[name] for status, name in metric_names.AGENTS.items() if measured[name]} == {"healthy": 2}
