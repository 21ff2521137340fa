"""Label sets, and the positions of jobs in the queue."""

from datetime import timedelta

import pytest

from apps.jobs.label_sets import (
    HIGHEST_PRIORITY,
    agent_may_take,
    position_job_id,
    position_priority,
    queue_position,
    set_id,
)
from controlplane.lib import clock
from controlplane.lib.ids import id_moment, new_id

AT = "2026-11-21T09:35:37.250000Z"


def test_the_same_labels_are_the_same_set_in_any_order_and_number() -> None:
    assert set_id(["gpu", "linux"]) == set_id(["linux", "gpu", "linux"]) == set_id({"gpu", "linux"})


def test_different_labels_are_different_sets() -> None:
    sets = [(), ("gpu",), ("gpu", "linux"), ("gpulinux",), ("gpu,linux",), ('gpu","linux',), ("GPU",), ("",)]
    assert len({set_id(labels) for labels in sets}) == len(sets)


def test_the_id_of_a_set_is_the_same_in_every_release() -> None:
    # After an update, the waiting entries must still be found under it.
    assert set_id([]) == "5d4f265fd0676348"


@pytest.mark.parametrize(
    ("wanted", "offered", "may"),
    [
        ((), (), True),
        ((), ("gpu",), True),
        (("gpu",), ("gpu", "linux"), True),
        (("gpu", "linux"), ("linux", "gpu"), True),
        (("gpu",), (), False),
        (("gpu", "linux"), ("gpu",), False),
        (("GPU",), ("gpu",), False),
    ],
)
def test_an_agent_may_take_jobs_that_require_only_labels_that_it_has(
    wanted: tuple[str, ...], offered: tuple[str, ...], may: bool
) -> None:
    assert agent_may_take(wanted, offered) is may


def test_positions_sort_by_priority_and_then_by_age() -> None:
    jobs = []
    for priority in (HIGHEST_PRIORITY, 51, 50, 9, 0):
        for seconds in (0, 1, 3600, 86400 * 365):
            with clock.shifted(timedelta(seconds=seconds)):
                job_id = new_id()
                created_at = clock.timestamp(id_moment(job_id))
                jobs.append(queue_position(priority=priority, created_at=created_at, job_id=job_id))
    assert jobs == sorted(jobs)


def test_a_position_contains_the_job_and_its_priority() -> None:
    job_id = new_id()
    position = queue_position(priority=70, created_at=AT, job_id=job_id)
    assert position_job_id(position) == job_id
    other = queue_position(priority=70, created_at="2026-11-22T00:00:00.000000Z", job_id=new_id())
    assert position_priority(position) == position_priority(other)
    assert position_priority(position) != position_priority(queue_position(priority=71, created_at=AT, job_id=job_id))


def test_an_entry_of_the_queue_stays_small() -> None:
    assert len(queue_position(priority=0, created_at=AT, job_id=new_id())) + len(set_id(["gpu"])) < 100
