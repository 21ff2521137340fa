"""Changing the configuration of an agent: what it may be, and what an agent from before a rule keeps."""

from collections.abc import Callable

import pytest

from apps.agents.models import Agent
from apps.agents.selectors import identity_get
from apps.agents.services import agent_configure, agent_key_rotate
from apps.audit.models import AuditRecord
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden, InvalidInput, NotFound
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import stored_agent
from tests.agents.interleaving import before_first
from tests.conftest import OPERATOR


def configure(agent_id: str, admin_actor: Actor, labels: list[str], slots: int = 4) -> Agent:
    version = int(stored_agent(agent_id).config_version)
    return agent_configure(
        agent_id=agent_id, labels=labels, slots=slots, deployment_targets=[], config_version=version, actor=admin_actor
    )


def configured() -> list[AuditRecord]:
    return [record for record in AuditRecord.scan() if record.action == "agent.configured"]


@pytest.mark.parametrize("label", ["-linux", ".linux", "a b", "", "l" * 64])
def test_a_label_that_no_job_can_ask_for_is_refused(enrol: Callable[..., str], admin_actor: Actor, label: str) -> None:
    agent_id = enrol()
    with pytest.raises(InvalidInput) as caught:
        configure(agent_id, admin_actor, ["linux", label])
    (error,) = caught.value.errors
    assert error["field"] == "labels"
    assert "must be 1 to 63 letters, digits and . _ : / = -, beginning with a letter or digit" in error["message"]
    assert stored_agent(agent_id).labels == ["linux", "gpu"]


def test_an_agent_keeps_the_labels_that_it_has(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    Agent(agent_id).update(actions=[Agent.labels.set(["-old", "linux"])])
    assert configure(agent_id, admin_actor, ["-old", "linux", "gpu"], slots=2).slots == 2
    assert stored_agent(agent_id).labels == ["-old", "linux", "gpu"]


def test_an_agent_keeps_the_deployment_targets_that_it_has(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    Agent(agent_id).update(actions=[Agent.deployment_targets.set(["-old"])])
    changes = {"labels": ["linux"], "slots": 4, "config_version": 1, "actor": admin_actor}
    kept = agent_configure(agent_id=agent_id, deployment_targets=["-old", "new"], **changes)  # type: ignore[arg-type]
    assert kept.deployment_targets == ["-old", "new"]


# --- revisions ------------------------------------------------------------------------------------------------------


def test_a_change_is_stored_fetched_and_recorded(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    changed = agent_configure(
        agent_id=agent_id, labels=["arm"], slots=2, deployment_targets=["b"], config_version=1, actor=admin_actor
    )
    assert (changed.labels, changed.slots, changed.deployment_targets, changed.config_version) == (["arm"], 2, ["b"], 2)
    assert stored_agent(agent_id).to_simple_dict() == changed.to_simple_dict()
    (event,) = configured()
    assert (event.target, event.actor_id) == (f"agent:{agent_id}", admin_actor.id)
    assert event.detail == {
        "labels": "linux, gpu → arm",
        "slots": "4 → 2",
        "deployment_targets": "none → b",
    }


def test_only_what_changes_is_recorded_and_the_current_values_change_nothing(
    enrol: Callable[..., str], admin_actor: Actor
) -> None:
    agent_id = enrol()
    assert configure(agent_id, admin_actor, ["linux", "gpu"], slots=4).config_version == 1
    assert configured() == []
    assert configure(agent_id, admin_actor, ["linux", "gpu"], slots=3).config_version == 2
    assert [event.detail for event in configured()] == [{"slots": "4 → 3"}]


def test_an_agent_that_was_read_at_an_old_revision_is_not_changed(
    enrol: Callable[..., str], admin_actor: Actor
) -> None:
    agent_id = enrol()
    configure(agent_id, admin_actor, ["theirs"])
    for version in (1, 3):
        with pytest.raises(Conflict) as caught:
            agent_configure(
                agent_id=agent_id,
                labels=["mine"],
                slots=4,
                deployment_targets=[],
                config_version=version,
                actor=admin_actor,
            )
        assert caught.value.code == "changed_meanwhile"
    # Also if it already is as the user wants it: the user has seen something else.
    with pytest.raises(Conflict):
        agent_configure(
            agent_id=agent_id,
            labels=["theirs"],
            slots=4,
            deployment_targets=[],
            config_version=1,
            actor=admin_actor,
        )
    assert (stored_agent(agent_id).labels, len(configured())) == (["theirs"], 1)


@pytest.mark.parametrize("other", ["configure", "rotate"])
def test_a_change_that_comes_between_read_and_write_is_not_overwritten(
    enrol: Callable[..., str], admin_actor: Actor, other: str
) -> None:
    agent_id = enrol()

    def change() -> None:
        if other == "configure":
            configure(agent_id, admin_actor, ["theirs"], slots=7)
        else:
            # The agent fetches its new key with its configuration, so this is another version of it.
            agent_key_rotate(agent_id=agent_id, actor=admin_actor)

    with before_first(Transaction, "commit", change) as commits, pytest.raises(Conflict) as caught:
        configure(agent_id, admin_actor, ["mine"])
    assert caught.value.code == "changed_meanwhile"
    assert len(commits) == 1
    stored = stored_agent(agent_id)
    assert (stored.labels, stored.slots) == ((["theirs"], 7) if other == "configure" else (["linux", "gpu"], 4))
    assert stored.config_version == 2
    events = [event.detail["labels"] for event in configured()]
    assert events == (["linux, gpu → theirs"] if other == "configure" else [])


def test_an_agent_that_is_deleted_between_read_and_write_is_not_made_again(
    enrol: Callable[..., str], admin_actor: Actor
) -> None:
    agent_id = enrol()
    with before_first(Transaction, "commit", lambda: Agent(agent_id).delete()), pytest.raises(NotFound) as caught:
        configure(agent_id, admin_actor, ["mine"])
    assert caught.value.code == "agent_not_found"
    assert (Agent.find(agent_id), configured()) == (None, [])


def test_the_agents_next_request_has_the_new_labels(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    key_id = stored_agent(agent_id).keys[0].key_id
    before = identity_get(agent_id, key_id)
    configure(agent_id, admin_actor, ["arm"], slots=2)
    after = identity_get(agent_id, key_id)
    assert before is not None
    assert after is not None
    assert (before.labels, after.labels, after.slots) == (("linux", "gpu"), ("arm",), 2)


@pytest.mark.parametrize("slots", [0, -1, 65])
def test_slots_are_from_1_to_64(enrol: Callable[..., str], admin_actor: Actor, slots: int) -> None:
    agent_id = enrol()
    with pytest.raises(InvalidInput) as caught:
        configure(agent_id, admin_actor, ["linux"], slots=slots)
    assert caught.value.errors == [{"field": "slots", "message": "must be from 1 to 64"}]
    assert [configure(agent_id, admin_actor, ["linux"], slots=most).slots for most in (1, 64)] == [1, 64]


def test_names_are_kept_once_and_at_most_twenty(enrol: Callable[..., str], admin_actor: Actor) -> None:
    agent_id = enrol()
    many = [f"l{number}" for number in range(20)]
    assert configure(agent_id, admin_actor, [*many, "l0"]).labels == many
    with pytest.raises(InvalidInput, match="at most 20"):
        configure(agent_id, admin_actor, [*many, "l20"])


def test_the_service_itself_refuses_users_without_the_permission(enrol: Callable[..., str]) -> None:
    agent_id = enrol()
    for actor in (OPERATOR, Actor("user", "eve", "Eve"), Actor("agent", agent_id, "build-1")):
        with pytest.raises(Forbidden):
            configure(agent_id, actor, ["mine"])
    assert stored_agent(agent_id).labels == ["linux", "gpu"]
