"""``manage.py sweep``: the tasks of each minute all run, whatever becomes of one."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management import call_command

from apps.jobs.selectors.queue import queue_registry
from controlplane import schedules
from controlplane.lib import clock, metric_names
from controlplane.lib.errors import Unavailable
from controlplane.management.commands import sweep
from controlplane.schedules import EACH_MINUTE, Task
from tests.clients import Client
from tests.jobs.conftest import agent, make_job, operator_actor, pipeline  # noqa: F401 — fixtures
from tests.observability.conftest import Written, written  # noqa: F401 — fixtures
from tests.polling import polled
from tests.signing import AgentClient


class Tasks:
    """Tasks that note that they ran, in place of the real ones; those in `failures` then fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.failures: dict[str, Exception] = {}
        made = tuple(Task(task.name, self._run(task.name), task.counts) for task in EACH_MINUTE)
        monkeypatch.setattr(schedules, "EACH_MINUTE", made)

    def _run(self, name: str) -> Callable[[], int]:
        def run() -> int:
            self.ran.append(name)
            if name in self.failures:
                raise self.failures[name]
            return 7

        return run


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return Tasks(monkeypatch)


NAMES = [task.name for task in EACH_MINUTE]


def test_each_task_does_its_work(
    agent: AgentClient,  # noqa: F811
    operator: Client,
    make_job: Callable[..., str],  # noqa: F811
    written: Written,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = make_job(labels=[])
    agent.finish(agent.take(), log_chunks=0)
    lost = make_job(labels=[])
    agent.take()
    with polled(50):
        call_command("sweep")
    assert capsys.readouterr().out == (
        "1 agents marked, 1 jobs taken back, 0 runs advanced, 0 runs started, 0 events worked off, 0 queues pruned, "
        "0 queue entries healed, 0 agents deleted, 0 identity keys replaced, 0 expired files deleted, "
        "0 audit events sealed, 0 audit events held, 1 logs stored, 0 seals stored, 0 audit events sent, "
        "0 missed webhooks taken in, 0 rotations advanced, 0 messages handled\n"
    )
    assert operator.get(f"/agents/{agent.agent_id}").json()["status"] == "unhealthy"
    assert operator.get(f"/jobs/{lost}").json()["status"] == "queued"
    assert operator.get(f"/jobs/{ended}").json()["logs_url"]
    assert written.values(metric_names.QUEUE_DEPTH) == [1]

    operator.post(f"/jobs/{lost}/cancel")
    # An empty queue is marked first, and pruned a minute after that.
    for minutes in (11, 13):
        with clock.shifted(timedelta(minutes=minutes)):
            call_command("sweep")
    assert "1 queues pruned" in capsys.readouterr().out
    assert queue_registry().sets == []


def test_what_needs_object_storage_or_others_servers_comes_last(tasks: Tasks) -> None:
    schedules.sweep({}, None)
    assert tasks.ran == NAMES
    assert NAMES[-6:] == [
        "logs_archive",
        "audit_seals_copy",
        "audit_ship",
        "deliveries_reconcile",
        "rotations_advance",
        "outbox_work",
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("failure", [Unavailable, ZeroDivisionError])
def test_a_task_that_fails_keeps_no_other_from_running(
    tasks: Tasks,
    written: Written,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    name: str,
    failure: type[Exception],
) -> None:
    tasks.failures[name] = failure()
    with pytest.raises(failure):
        call_command("sweep")
    assert tasks.ran == NAMES
    counted = [task.name for task in EACH_MINUTE if task.counts]
    assert capsys.readouterr().out.count("7") == len(set(counted) - {name})
    (line,) = written.lines
    assert (line["level"], line["route"]) == ("ERROR", "sweep")
    assert name in line["exception"]


def test_each_failure_has_a_line(tasks: Tasks, written: Written) -> None:  # noqa: F811
    tasks.failures |= {"leases_expire": ZeroDivisionError(), "logs_archive": Unavailable()}
    with pytest.raises(ZeroDivisionError):
        call_command("sweep")
    assert tasks.ran == NAMES
    assert [(line["level"], line.get("code")) for line in written.lines] == [("ERROR", "unavailable"), ("ERROR", None)]
    assert ["logs_archive" in line["exception"] for line in written.lines] == [True, False]


def test_a_sweep_that_repeats_outlives_an_outage(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on after its failure, and ends here because the second pause is interrupted."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "time", SimpleNamespace(sleep=sleep))
    tasks.failures["agents_mark_silent"] = Unavailable()
    with pytest.raises(KeyboardInterrupt):
        call_command("sweep", every=20)
    assert (tasks.ran, pauses) == (NAMES * 2, [20, 20])
    assert capsys.readouterr().err.count("The database is not available") == 2


def test_what_the_tasks_leave_of_their_shares_is_for_the_one_that_takes_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[float] = []
    first = Task("first", lambda *, seconds: 0, seconds=5)
    rest = Task("rest", lambda *, seconds: given.append(seconds), seconds=1, takes_rest=True)
    monkeypatch.setattr(schedules, "EACH_MINUTE", (first, rest))
    call_command("sweep")
    assert 5.5 < given[0] <= 6
