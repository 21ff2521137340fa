"""Environments: who makes and changes them, and what happens to what waits for them."""

import pytest

from apps.audit.selectors import audit_search
from apps.jobs.selectors.environments import environment_list, environment_view
from apps.jobs.services.environments import environment_change, environment_create, environment_delete
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.deployments import DEPLOYS, deployer, environment
from tests.jobs.runs import states


def test_an_environment_is_made_changed_and_deleted_with_its_trail(tables: None) -> None:
    made = environment(url="https://shop.example.com", allowed_refs=["main", "main"], wait_seconds=60)
    assert (made.allowed_refs, made.revision, made.created_by) == (["main"], 1, "admin")
    changed = environment_change(actor=ADMIN, name="production", wait_seconds=0)
    assert (changed.wait_seconds, changed.url, changed.revision) == (0, "https://shop.example.com", 2)
    # A change that changes nothing is none.
    assert environment_change(actor=ADMIN, name="production", wait_seconds=0).revision == 2
    with pytest.raises(Conflict) as refused:
        environment_change(actor=ADMIN, name="production", wait_seconds=5, revision=1)
    assert refused.value.code == "changed_meanwhile"
    environment_delete(actor=ADMIN, name="production")
    assert environment_list() == []
    for act in (environment_delete, environment_change):
        with pytest.raises(NotFound):
            act(actor=ADMIN, name="production")
    # Made again, it asks for nothing that the old one asked for.
    again = environment()
    assert (again.url, again.allowed_refs, again.deleted_at, again.revision) == (None, [], None, 4)
    trail = [one.action for one in audit_search(target="environment:production").records]
    assert sorted(trail) == [f"environment.{what}" for what in ("changed", "created", "created", "deleted")]


def test_only_who_may_manage_environments_does(tables: None) -> None:
    environment()
    for act in (environment_create, environment_change, environment_delete):
        with pytest.raises(Forbidden):
            act(actor=OPERATOR, name="production")


def test_another_person_must_approve_only_where_somebody_must(tables: None) -> None:
    """Otherwise an environment would look protected and let everything through."""
    with pytest.raises(InvalidInput) as refused:
        environment(requester_may_not_approve=True)
    assert [one["field"] for one in refused.value.errors] == ["requester_may_not_approve"]
    environment(requester_may_not_approve=True, approvals=1, approver_roles=["admin"])
    with pytest.raises(InvalidInput, match="must be off unless approvals is at least 1"):
        environment_change(actor=ADMIN, name="production", approvals=0)
    assert (
        environment_change(actor=ADMIN, name="production", approvals=0, requester_may_not_approve=False).approvals == 0
    )


def test_names_meet_no_row_of_another_kind(tables: None) -> None:
    environment("a")
    environment("a-b")
    assert [view.environment.name for view in environment_list()] == ["a", "a-b"]
    assert environment_view("a#b") is None
    for name in ("a#b", "", "a b", "x" * 56):
        with pytest.raises(InvalidInput):
            environment_create(actor=ADMIN, name=name)


def test_a_change_counts_at_once_for_what_waits(tables: None) -> None:
    worker = deployer()
    environment(approvals=1, approver_roles=["operator"])
    run = worker.run(DEPLOYS)
    environment_change(actor=ADMIN, name="production", approvals=0)
    assert states(run) == {"ship": "queued"}
    other = worker.run(DEPLOYS)
    environment_change(actor=ADMIN, name="production", allowed_refs=["release/*"])
    assert states(other) == {"ship": "failed"}
