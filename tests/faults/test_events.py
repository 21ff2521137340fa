"""DynamoDB fails while webhooks are taken and worked off, and while connections change."""

from functools import partial

import pytest

from apps.jobs.models import RUN, Job, Run
from apps.jobs.services import FileReport, attempt_define, event_work, run_allow
from apps.jobs.services.claims import _entry_claim
from apps.jobs.services.event_runs import superseded_cancel
from apps.jobs.services.queue import entry_of
from apps.sources.models import Delivery
from apps.sources.selectors import delivery_find
from apps.sources.services import (
    connection_change,
    connection_create,
    connection_delete,
    connection_secret_rotate,
    delivery_redeliver,
)
from controlplane.lib.errors import Unavailable
from tests.conftest import ADMIN
from tests.faults.injection import Fault, fault
from tests.faults.scenarios import FAULTS, Scenario, Scenarios, faults_survived
from tests.faults.world import Act, World
from tests.jobs.runs import COMMIT, Worker
from tests.jobs.test_event_starts import deliver
from tests.sources.hooks import SECRET, B, C, bound, connected, github_pull, github_push, github_repository

scenario = Scenarios(prepared_once=True)

CANCELS = "steps: [{run: make}]\non: {push: {cancel_superseded: true}}"


def _worked(event_id: str) -> None:
    """Work an event off until it is done. While DynamoDB fails it stays due, and the sweep would come again."""
    event_work(event_id, seconds=60)
    if Delivery.get(event_id).state == "pending":
        raise Unavailable


def _started(kind: str = "push", *, fork: bool = False, definition: str | None = None) -> Run:
    connected()
    bound(definition=definition)
    event_id = deliver(github_pull(fork=fork) if kind == "pull_request" else github_push(), kind)
    event_work(event_id, seconds=60)
    return Run.get(Delivery.get(event_id).results[0]["run_id"], RUN)


@scenario("name_taken")
def create_a_connection(_: World) -> Act:
    return partial(
        connection_create, actor=ADMIN, connection_id="hub", provider="github", webhook_secret=SECRET, token="x"
    )


@scenario()
def change_a_connection(_: World) -> Act:
    connected()
    return partial(connection_change, actor=ADMIN, connection_id="hub", name="Hub", api_url="https://git.example.com")


@scenario("connection_not_found")
def delete_a_connection(_: World) -> Act:
    connected()
    return partial(connection_delete, actor=ADMIN, connection_id="hub")


@scenario("changed_meanwhile", repeatable=False)
def rotate_a_webhook_secret(_: World) -> Act:
    connected()
    return partial(connection_secret_rotate, actor=ADMIN, connection_id="hub")


@scenario()
def bind_a_pipeline(_: World) -> Act:
    connected()
    bound()
    return partial(bound, repository="acme/other")


@scenario()
def work_off_a_push(_: World) -> Act:
    connected()
    bound()
    return partial(_worked, deliver(github_push()))


@scenario()
def work_off_a_push_that_cancels_older_runs(_: World) -> Act:
    connected()
    bound(definition=CANCELS)
    event_work(deliver(github_push(after=B)), seconds=60)
    return partial(_worked, deliver(github_push(before=B, after=C)))


@scenario()
def work_off_a_new_name(_: World) -> Act:
    connected()
    bound()
    renamed = {
        "action": "renamed",
        "changes": {"repository": {"name": {"from": "shop"}}},
        "repository": github_repository("acme/store"),
    }
    return partial(_worked, deliver(renamed, "repository"))


@scenario()
def work_off_an_installation(_: World) -> Act:
    connected()
    installed = {"action": "created", "installation": {"id": 234, "account": {"login": "acme"}}}
    return partial(_worked, deliver(installed, "installation"))


@scenario()
def redeliver_a_failed_event(_: World) -> Act:
    connected()
    bound()
    event_id = deliver(github_push())
    delivery = delivery_find(event_id)
    gone = [Delivery.due.remove(), Delivery.due_at.remove()]
    delivery.update(actions=[Delivery.state.set("failed"), Delivery.trouble.set(delivery.month), *gone])
    return partial(delivery_redeliver, actor=ADMIN, connection_id="hub", event_id=event_id)


@scenario("stale_attempt")
def end_a_run_that_has_nothing_to_do(world: World) -> Act:
    run = _started()
    worker = Worker(world.agent)
    _entry_claim(entry_of(Job.get(run.job_id), attempt=1), agent=world.agent, slots=2)
    job = worker.start(str(run.job_id))
    report = FileReport(commit=COMMIT, text="steps: [{run: make}]\non: {tag: {}}")
    return partial(attempt_define, agent=world.agent, agent_labels=[], job_id=str(job.job_id), attempt=1, report=report)


@scenario()
def let_the_run_of_a_fork(_: World) -> Act:
    run = _started("pull_request", fork=True)
    return partial(run_allow, actor=ADMIN, run_id=str(run.run_id))


@scenario()
def cancel_superseded_runs(_: World) -> Act:
    connected()
    bound(definition=None)
    event_work(deliver(github_push(after=B)), seconds=60)
    event_id = deliver(github_push(before=B, after=C))
    event_work(event_id, seconds=60)
    run = Run.get(Delivery.get(event_id).results[0]["run_id"], RUN)
    return partial(superseded_cancel, run)


# The others at night: they are like these, or like what other files try.
_BY_DAY = {"work_off_a_push", "work_off_an_installation", "rotate_a_webhook_secret", "end_a_run_that_has_nothing_to_do"}
ACTS = [pytest.param(one, marks=() if str(one) in _BY_DAY else pytest.mark.nightly, id=str(one)) for one in scenario]


@pytest.mark.parametrize(("kind", "lasting"), FAULTS)
@pytest.mark.parametrize("act", ACTS)
def test_a_fault_at_any_call_neither_loses_nor_doubles_anything(
    tables: None, act: Scenario, kind: Fault, lasting: bool
) -> None:
    faults_survived(act, kind, lasting=lasting)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("kind", [Fault.LOST, Fault.ERROR])
def test_a_webhook_is_stored_or_refused_whole(tables: None, kind: Fault, lasting: bool) -> None:
    """The provider asks again after a 503; a redelivery has the same id, so it is stored once."""
    connected()
    for call in range(2):
        with fault(kind, call=call, lasting=lasting):
            try:
                deliver(github_push(), delivery=f"d{call}")
            except Unavailable:
                assert lasting
        event_id = deliver(github_push(), delivery=f"d{call}")
        assert delivery_find(event_id).state == "pending"
