"""Noting the last sweep: what failed at once, and else seldom."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.management import call_command

from apps.jobs.selectors.status import Health
from apps.jobs.services.sweeps import sweep_note
from controlplane import schedules
from controlplane.lib import clock
from controlplane.schedules import Task
from tests.jobs.test_status import SWEEP, found
from tests.metering import dynamodb_calls


@pytest.fixture(autouse=True)
def _new_process(tables: None) -> None:
    cache.clear()


def test_the_command_notes_which_tasks_failed_and_when_none_does_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise ValueError("planted")

    works = Task("works", lambda: 1)
    monkeypatch.setattr(schedules, "EACH_MINUTE", (works, Task("breaks", fail)))
    with pytest.raises(ValueError, match="planted"):
        call_command("sweep")
    assert found(SWEEP) == (Health.DEGRADED, "The last time, these failed: breaks. The log has the reasons.")
    monkeypatch.setattr(schedules, "EACH_MINUTE", (works,))
    call_command("sweep")
    assert found(SWEEP)[0] == Health.OK


def test_a_sweep_without_failures_is_written_once_in_five_minutes() -> None:
    writes = []
    for minute in range(11):
        with clock.shifted(timedelta(minutes=minute)), dynamodb_calls() as metering:
            sweep_note(failed=[])
        writes.append(metering.calls)
    assert writes == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
