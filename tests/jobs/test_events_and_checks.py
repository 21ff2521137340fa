"""From webhooks to checks, with a provider that repeats, reorders, fails, and loses answers."""

import random
from contextlib import ExitStack
from datetime import timedelta

import pytest

from apps.jobs.models import RUN, Job, Run
from apps.jobs.selectors import runs_recent
from apps.jobs.services import events_work, outbox_work
from apps.notifications.selectors.outbox import OutboxItem
from apps.sources.models import Delivery
from controlplane.lib import clock
from tests.jobs.runs import Worker
from tests.properties.consistency import Everything, Items
from tests.sources.conftest import app_connection
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import Answer, Asked, FakeProvider
from tests.sources.hooks import bound, github_push

SHOP = "acme/shop"
# How long the provider fails half of its calls, and how long one round of everything takes.
FAILING, ROUND = timedelta(minutes=2), timedelta(seconds=20)


class Trouble:
    """For two minutes the provider refuses a quarter of its calls, and loses its answers to another one."""

    def __init__(self, provider: FakeProvider, luck: random.Random) -> None:
        self.provider, self.luck = provider, luck
        self.until = clock.now() + FAILING
        self.calls = self.failures = 0

    def __call__(self, asked: Asked) -> Answer | None:
        if clock.now() >= self.until:
            return None
        self.calls += 1
        what = self.luck.random()
        if what >= 0.5:
            return None
        self.failures += 1
        if what < 0.25:
            return Answer(502, {"message": "Server Error"})
        self.provider._routed(asked)
        return Answer(lost=True)


def deliveries(count: int, luck: random.Random) -> list[int]:
    """The numbers of so many pushes in the order in which they come: a third twice, and a third out of order."""
    order = [float(number) for number in range(count)]
    for number in luck.sample(range(count), count // 3):
        order[number] += luck.uniform(-count / 2, count / 2)
    repeated = [(luck.uniform(0, count), number) for number in luck.sample(range(count), count // 3)]
    return [number for _, number in sorted([*((at, number) for number, at in enumerate(order)), *repeated])]


def commit(number: int) -> str:
    return f"{number + 1:040x}"


def expected(number: int) -> str:
    """How the run of a push ends."""
    return "failure" if number % 3 == 0 else "success"


class Everyone:
    """The provider, a server, an agent and the sweep, who act in rounds of twenty seconds."""

    def __init__(self, provider: FakeProvider, worker: Worker, luck: random.Random) -> None:
        self.provider, self.worker, self.luck = provider, worker, luck
        self.running: list[Job] = []

    def push(self, number: int) -> None:
        payload = github_push(before=commit(number - 1) if number else "a" * 40, after=commit(number))
        assert self.provider.deliver("push", payload, guid=f"guid-{number}") == 202

    def act(self, share: float = 0.5) -> None:
        """The agent ends a share of its jobs and takes all others; the sweep does its work."""
        events_work(seconds=5)
        self.luck.shuffle(self.running)
        keep = round(len(self.running) * (1 - share))
        self.running, ended = self.running[:keep], self.running[keep:]
        for job in ended:
            self.worker.finish(job, exit_code=int(expected(int(str(job.commit), 16) - 1) == "failure"))
        self.running += self.worker.take_all()
        outbox_work(seconds=20)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_each_commit_s_checks_end_right_and_each_event_has_one_run(
    server: str, provider: FakeProvider, worker: Worker, count: int
) -> None:
    luck = random.Random(count)
    provider.repository_add(SHOP)
    connection = app_connection(provider)
    connection.save()
    bound(source="github", repository=SHOP)
    provider.webhook_url = f"{server}/webhooks/github"
    coming = deliveries(count, luck)
    everyone, trouble = Everyone(provider, worker, luck), Trouble(provider, luck)
    provider.before = trouble
    rounds = int(FAILING / ROUND)
    with ExitStack() as time:
        for number in range(rounds):
            for push in coming[number * len(coming) // rounds : (number + 1) * len(coming) // rounds]:
                everyone.push(push)
            everyone.act()
            time.enter_context(clock.shifted(ROUND))
        # The longest pause of the outbox.
        time.enter_context(clock.shifted(timedelta(minutes=15)))
        for _ in range(2):
            everyone.act(share=1)
        assert trouble.failures > trouble.calls // 3
        shown = {run["head_sha"]: run.get("conclusion") for run in provider.check_runs}
        assert shown == {commit(number): expected(number) for number in range(count)}
        assert len(provider.check_runs) == count
        runs = [Run.get(run.run_id, RUN) for run in runs_recent("web", limit=2 * count)]
        assert sorted(run.commit for run in runs) == sorted(shown)
        events = [Delivery.from_raw_data(item) for item in Items().of(Delivery)]
        assert (len(events), {event.state for event in events}) == (count, {"done"})
        assert sum(int(event.repetitions) for event in events) == count // 3
        assert list(Items().of(OutboxItem)) == []
        assert Everything.read().inconsistencies() == []
