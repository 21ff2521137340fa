"""Who may approve and reject deployments, and which of two acts at the same moment counts."""

from collections.abc import Callable
from functools import partial

import pytest
from django.core.cache import cache

from apps.accounts.models import User
from apps.accounts.services import user_disable
from apps.audit.actions import Action
from apps.audit.selectors import audit_search
from apps.jobs.selectors.deployments import deployment_get
from apps.jobs.selectors.environments import environment_view
from apps.jobs.selectors.jobs import job_get
from apps.jobs.services import job_cancel, job_create, job_retry
from apps.jobs.services.approvals import deployment_approve, deployment_reject
from apps.jobs.services.environments import environment_change, environment_delete
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput
from tests.conftest import ADMIN, OPERATOR
from tests.emulator import items_read, items_replace
from tests.interleaving import every_order
from tests.jobs.deployments import DEPLOYS, acting, deployer, deployment_of, environment, user
from tests.jobs.runs import Worker, states
from tests.properties.consistency import Everything

# What may come at the same moment as an approval, besides a rejection and the end of the approver's role.
ACTS = ("cancel", "freeze", "delete", "two needed")


@pytest.fixture
def worker(tables: None) -> Worker:
    return deployer()


@pytest.fixture
def waiting(worker: Worker) -> str:
    """The id of a deployment that needs one approval, of an operator who did not ask for it."""
    environment(approvals=1, approver_roles=["operator"], requester_may_not_approve=True)
    return str(deployment_of(worker.run(DEPLOYS)).deployment_id)


def demote(user_id: str) -> None:
    """The user is a viewer from now on."""
    User(user_id).update(actions=[User.role.set("viewer")])


def test_a_person_whom_the_environment_names_may_approve_whatever_their_role(worker: Worker) -> None:
    eve = user("eve", role="viewer")
    environment(approvals=1, approver_ids=[str(eve.user_id)])
    deployment_id = str(deployment_of(worker.run(DEPLOYS)).deployment_id)
    with pytest.raises(Forbidden):
        deployment_approve(actor=acting(user("bob")), deployment_id=deployment_id)
    assert deployment_approve(actor=acting(eve), deployment_id=deployment_id).status == "in_progress"


def test_the_user_who_asked_may_not_approve_nor_the_user_who_ran_the_job_again(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"], requester_may_not_approve=True)
    ada, bob, eve = (acting(user(name)) for name in ("ada", "bob", "eve"))
    created = job_create(actor=ada, pipeline="graph")
    first = worker.take()
    worker.report(first, DEPLOYS)
    worker.finish(first)
    run = str(created.run_id)
    deployment_approve(actor=bob, deployment_id=str(deployment_of(run).deployment_id))
    worker.finish(worker.take(), exit_code=1)
    job_retry(actor=bob, job_id=str(deployment_of(run).deployment_id))
    again = str(deployment_of(run).deployment_id)
    for asked in (ada, bob):
        with pytest.raises(Forbidden) as refused:
            deployment_approve(actor=asked, deployment_id=again)
        assert "another person must approve" in refused.value.message
    assert deployment_approve(actor=eve, deployment_id=again).status == "in_progress"


def test_two_approvals_are_of_two_people(worker: Worker) -> None:
    environment(approvals=2, approver_roles=["operator"])
    bob, eve = acting(user("bob")), acting(user("eve"))
    deployment_id = str(deployment_of(worker.run(DEPLOYS)).deployment_id)
    for _ in range(2):
        assert deployment_approve(actor=bob, deployment_id=deployment_id).status == "waiting"
    assert deployment_approve(actor=eve, deployment_id=deployment_id).status == "in_progress"


def test_two_approvals_at_once_one_needed_one_counts(waiting: str, emulator: str) -> None:
    bob, eve = acting(user("bob")), acting(user("eve"))
    prepared = items_read(emulator)
    for order in every_order():
        items_replace(emulator, prepared)
        cache.clear()
        outcomes = order.race(
            partial(deployment_approve, actor=bob, deployment_id=waiting),
            partial(deployment_approve, actor=eve, deployment_id=waiting),
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(refused) == 1, outcomes
        assert refused[0] in ("approvals_complete", "deployment_state")
        assert len(deployment_get(waiting).approvals) == 1
        approved = [one for one in audit_search(target="environment:production").records if "approved" in one.action]
        assert len(approved) == 1


@pytest.mark.parametrize(
    "act",
    ["reject", "demote", *(pytest.param(act, marks=pytest.mark.nightly) for act in ACTS)],
)
def test_an_approval_and_another_act_at_the_same_moment_leave_one_of_both(
    waiting: str, emulator: str, act: str
) -> None:
    bob, eve = user("bob"), acting(user("eve"))
    frozen = [{"from": "2020-01-01T00:00", "until": "2099-01-01T00:00", "zone": "UTC"}]
    acts: dict[str, Callable[[], object]] = {
        "reject": partial(deployment_reject, actor=eve, deployment_id=waiting),
        "cancel": partial(job_cancel, actor=OPERATOR, job_id=waiting),
        "freeze": partial(environment_change, actor=ADMIN, name="production", freezes=frozen),
        "delete": partial(environment_delete, actor=ADMIN, name="production"),
        "demote": partial(demote, str(bob.user_id)),
        "two needed": partial(environment_change, actor=ADMIN, name="production", approvals=2),
    }
    prepared = items_read(emulator)
    seen = set()
    for order in every_order():
        items_replace(emulator, prepared)
        cache.clear()
        order.race(partial(deployment_approve, actor=acting(bob), deployment_id=waiting), acts[act])
        deployment, job, view = deployment_get(waiting), job_get(waiting), environment_view("production")
        assert view is not None
        seen.add(str(deployment.status))
        # The job, the deployment and the environment say the same.
        assert (deployment.status == "waiting") == (job.status == "waiting") == bool(view.waiting)
        assert (deployment.status == "in_progress") == (job.status == "queued") == bool(view.environment.holders)
        assert Everything.read().inconsistencies() == []
    ends = {
        "reject": {"in_progress", "rejected"},
        "cancel": {"cancelled"},
        "delete": {"in_progress", "failed"},
    }
    assert seen <= ends.get(act, {"in_progress", "waiting"}), seen


def test_the_report_of_deployments_says_who_approved(worker: Worker) -> None:
    environment(approvals=2, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    for name in ("bob", "eve"):
        deployment_approve(actor=acting(user(name)), deployment_id=str(deployment_of(run).deployment_id))
    worker.take()
    (started,) = audit_search(action=Action.DEPLOYMENT_STARTED).records
    assert (started.detail["approved_by"], started.target) == ("Bob, Eve", "environment:production")


def test_an_approver_who_is_demoted_or_disabled_counts_no_more(worker: Worker) -> None:
    environment(approvals=1, approver_roles=["operator"], wait_seconds=60)
    bob = user("bob")
    run = worker.run(DEPLOYS)
    deployment_approve(actor=acting(bob), deployment_id=str(deployment_of(run).deployment_id))
    user_disable(user_id=str(bob.user_id), actor=SYSTEM)
    environment_change(actor=ADMIN, name="production", wait_seconds=0)
    assert states(run) == {"ship": "waiting"}
    environment_change(actor=ADMIN, name="production", approvals=0)
    assert states(run) == {"ship": "queued"}


def test_programs_without_a_person_approve_nothing(waiting: str) -> None:
    schedule = Actor("schedule", "x.y", "schedule x.y", OPERATOR.permissions)
    for decide in (deployment_approve, deployment_reject):
        with pytest.raises(Forbidden) as refused:
            decide(actor=schedule, deployment_id=waiting)
        assert "Only a person" in refused.value.message


def test_a_comment_is_not_a_book(waiting: str) -> None:
    with pytest.raises(InvalidInput):
        deployment_approve(actor=acting(user("bob")), deployment_id=waiting, comment="x" * 1001)


def test_an_environment_that_asks_for_none_takes_none(worker: Worker) -> None:
    environment(wait_seconds=60)
    deployment_id = str(deployment_of(worker.run(DEPLOYS)).deployment_id)
    with pytest.raises(Conflict) as refused:
        deployment_approve(actor=acting(user("bob")), deployment_id=deployment_id)
    assert refused.value.code == "no_approval_needed"
