"""Runs that schedules start: each time once, missed ones once, and none that keeps another back."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache

from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.models import RUN, Run
from apps.jobs.selectors import job_get, runs_recent
from apps.jobs.services import schedule_starts, schedules_start
from apps.jobs.services.schedule_starts import schedule_start
from apps.pipelines.selectors import pipeline_get, schedule_find, schedule_get, schedule_times
from apps.pipelines.services import (
    pipeline_delete,
    pipeline_pause,
    pipeline_resume,
    pipeline_save,
    schedule_change,
    schedule_pause,
    schedule_resume,
)
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.metering import dynamodb_calls
from tests.pipelines.schedules import ID, scheduled
from tests.properties.consistency import Everything


@contextmanager
def at(moment: str | datetime) -> Iterator[None]:
    """The clock stands at this time of UTC, and goes on."""
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    with clock.shifted(when - clock.now()):
        yield


def sweep() -> int:
    return schedules_start(seconds=60)


def runs(pipeline: str = "self") -> list[Run]:
    return [Run.get(run.run_id, RUN) for run in runs_recent(pipeline, limit=100)]


def test_a_run_is_started_when_it_is_due_and_once(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *", zone="Europe/Berlin", git_ref="release")
        assert schedule_times(schedule_get(ID)) == [f"2027-01-{day}T02:00:00.000000Z" for day in (10, 11, 12)]
    with at("2027-01-10T01:59Z"):
        assert sweep() == 0
    with at("2027-01-10T02:00:20Z"):
        assert (sweep(), sweep()) == (1, 0)
        (run,) = runs()
        schedule = schedule_get(ID)
        assert (run.event, run.git_ref, run.schedule_id, run.requested_by) == (
            "schedule",
            "release",
            ID,
            f"schedule {ID}",
        )
        assert (schedule.last_run_id, schedule.last_due_at) == (run.run_id, "2027-01-10T02:00:00.000000Z")
        assert schedule_times(schedule)[0] == "2027-01-11T02:00:00.000000Z"
        (created,) = audit_search(actor=f"schedule:{ID}").records
        assert (created.action, created.target) == ("job.created", f"job:{run.job_id}")
        assert job_get(run.job_id).event == "schedule"
        assert Everything.read().inconsistencies() == []


def test_missed_times_run_once_and_then_it_goes_on_as_planned(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 * * * *")
    with at("2027-01-10T09:30Z"):
        assert (sweep(), sweep()) == (1, 0)
        assert schedule_get(ID).due_at == "2027-01-10T10:00:00.000000Z"
    with at("2027-01-10T10:00:01Z"):
        assert sweep() == 1


@pytest.mark.parametrize("midnight", ["2027-03-28T00:00+01:00", "2027-10-31T00:00+02:00"])
def test_across_daylight_saving_one_run_a_day_and_one_an_hour(pipeline: str, midnight: str) -> None:
    begin = datetime.fromisoformat(midnight)
    with at(begin):
        scheduled(cron="30 2 * * *", zone="Europe/Berlin")
        scheduled(name="hourly", cron="15 * * * *", zone="Europe/Berlin")
    started = []
    for hour in range(1, 7):
        with at(begin + timedelta(hours=hour)):
            started.append(sweep())
    assert sorted(started) == [1, 1, 1, 1, 1, 2]
    assert [run.schedule_id for run in runs()].count(ID) == 1


def test_two_sweeps_at_once_make_one_run_in_each_order(pipeline: str, emulator: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
    with at("2027-01-10T03:00Z"):
        prepared = items_read(emulator)
        for order in every_order():
            items_replace(emulator, prepared)
            cache.clear()
            assert {*order.race(partial(schedule_start, ID), partial(schedule_start, ID))} == {False, True}
            assert len(runs()) == 1


def test_a_user_who_changes_or_pauses_it_at_the_same_moment_gets_one_of_both(pipeline: str, emulator: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
    with at("2027-01-10T03:00Z"):
        prepared = items_read(emulator)
        pause = partial(schedule_pause, actor=OPERATOR, schedule_id=ID)
        for order in every_order():
            items_replace(emulator, prepared)
            cache.clear()
            order.race(partial(schedule_start, ID), pause)
            schedule = schedule_get(ID)
            assert schedule.paused_at
            assert (schedule.due, schedule.due_at) == (None, None)
            assert [run.run_id for run in runs()] == [schedule.last_run_id] * bool(schedule.last_run_id)


def test_a_time_that_is_due_stays_due_when_a_user_changes_the_ref(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
    with at("2027-01-10T03:00Z"):
        schedule_change(actor=OPERATOR, schedule_id=ID, git_ref="release")
        assert sweep() == 1
        assert runs()[0].git_ref == "release"


def test_a_paused_schedule_starts_none_and_goes_on_with_the_next_time(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
        schedule_pause(actor=OPERATOR, schedule_id=ID)
        assert schedule_times(schedule_get(ID)) == []
    with at("2027-01-12T12:00Z"):
        assert sweep() == 0
        schedule_resume(actor=OPERATOR, schedule_id=ID)
        assert sweep() == 0
        assert schedule_times(schedule_get(ID))[0] == "2027-01-13T03:00:00.000000Z"


def test_the_schedule_of_a_paused_pipeline_starts_none_and_says_so(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
        pipeline_pause(actor=OPERATOR, name="self")
    with at("2027-01-10T03:00Z"):
        assert sweep() == 0
        assert schedule_get(ID).problem == "The pipeline was paused."
        pipeline_resume(actor=OPERATOR, name="self")
        assert sweep() == 0
    with at("2027-01-11T03:00Z"):
        assert sweep() == 1
        assert schedule_get(ID).problem is None


def test_a_schedule_that_cannot_start_keeps_no_other_back_and_says_why(
    pipeline: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with at("2027-01-10T00:00Z"):
        for name in ("a-broken", "b-failing", "c-away", "d-good"):
            scheduled(name=name, cron="0 3 * * *")
        source = pipeline_get("self")
        members: Any = {"repository": source.repository, "default_ref": "main"}
        broken = "parameters: {n: {type: number, required: true}}\njobs: {make: {steps: [{run: make}]}}"
        pipeline_save(actor=ADMIN, name="other", definition=None, **members)
        scheduled("other", cron="0 3 * * *")
        pipeline_save(actor=ADMIN, name="other", definition=broken, **members)
        real = schedule_starts.schedule_start

    def start(schedule_id: str) -> bool:
        if schedule_id == "self.b-failing":
            raise RuntimeError("a bug")
        if schedule_id == "self.c-away":
            raise Unavailable
        return real(schedule_id)

    monkeypatch.setattr(schedule_starts, "schedule_start", start)
    with at("2027-01-10T03:00Z"), caplog.at_level(logging.WARNING):
        assert sweep() == 2
        assert "The schedule self.b-failing fails" in caplog.text
        assert "The schedule self.c-away stays due" in caplog.text
        assert "parameters.n: must be given" in str(schedule_get("other.nightly").problem)
        assert schedule_get("other.nightly").due_at == "2027-01-11T03:00:00.000000Z"
        monkeypatch.undo()
        assert sweep() == 2


def test_a_schedule_whose_time_zone_is_gone_says_so(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        schedule = scheduled(cron="0 3 * * *")
        schedule.zone = "Mars/Olympus"
        schedule.save()
    with at("2027-01-10T03:00Z"):
        assert (sweep(), sweep()) == (0, 0)
        assert "zone: must be a time zone" in str(schedule_get(ID).problem)


def test_a_pipeline_is_deleted_with_its_schedules(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        orphan = scheduled(cron="0 3 * * *")
        scheduled(name="weekly", cron="0 3 * * 1")
        pipeline_delete(actor=ADMIN, name="self")
        assert schedule_find(ID) is None
        (deleted,) = audit_search(action=Action.PIPELINE_DELETED).records
        assert deleted.detail == {"schedules": "nightly, weekly"}
        # One that a request made at the same moment.
        orphan.save()
    with at("2027-01-10T04:00Z"):
        assert sweep() == 0
        assert schedule_find(ID) is None


def test_what_a_start_costs(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
    with at("2027-01-10T03:00Z"), dynamodb_calls() as metering:
        assert sweep() == 1
    # What is due, the schedule, its pipeline; what follows is what every new run costs, and one transaction.
    assert metering.operations[:3] == ["Query", "GetItem", "GetItem"]
    assert metering.operations.count("TransactWriteItems") == 1
    with dynamodb_calls() as metering:
        assert sweep() == 0
    assert metering.operations == ["Query"]


def test_without_time_one_is_started_and_the_others_in_the_next_minute(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        for name in ("a", "b"):
            scheduled(name=name, cron="0 3 * * *")
    with at("2027-01-10T03:00Z"):
        assert [schedules_start(seconds=0) for _ in range(3)] == [1, 1, 0]


def test_only_a_run_that_may_have_nothing_to_build_waits_with_its_steps_for_the_commit(pipeline: str) -> None:
    with at("2027-01-10T00:00Z"):
        scheduled(cron="0 3 * * *")
    with at("2027-01-10T03:00Z"):
        assert sweep() == 1
    schedule_change(actor=OPERATOR, schedule_id=ID, only_if_changed=True)
    with at("2027-01-11T03:00Z"):
        assert sweep() == 1
    second, first = runs()
    assert (first.changed_since, list(second.changed_since)) == (None, [first.run_id])
    assert [job_get(run.job_id).definition is None for run in (first, second)] == [False, True]
    assert [job_get(run.job_id).is_defined_on_server for run in (first, second)] == [None, True]
