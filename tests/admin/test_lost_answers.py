"""Changes whose answer was lost are recognised as done, and are in the trail once."""

from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.models import User
from apps.accounts.policies import ROLES
from apps.accounts.services import user_create, user_password_set, user_update
from apps.agents.models import Agent, EnrolmentToken
from apps.agents.services import agent_configure, enrolment_token_create, enrolment_token_revoke
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, Forbidden, NotFound
from tests.accounts.test_lost_answers import first_answer_lost
from tests.conftest import PASSWORD
from tests.dashboard.scene import Scene


def acts(action: str) -> int:
    return sum(record.action == action for record in AuditRecord.scan())


@pytest.fixture
def eve(scene: Scene) -> User:
    return user_create(email="eve@example.com", password=PASSWORD, name="Eve", role="viewer", actor=scene.admin)


def changes(user: User, **members: Any) -> dict[str, Any]:
    return {"user_id": user.user_id, "name": "Eva", "role": "viewer", "is_active": True, "revision": 0} | members


def test_changing_a_user(eve: User, scene: Scene) -> None:
    with first_answer_lost() as sent:
        assert user_update(**changes(eve), actor=scene.admin).name == "Eva"
    assert len(sent) == 2
    assert (User.find(eve.user_id).revision, acts("user.changed")) == (1, 1)


def test_setting_a_password(eve: User, scene: Scene) -> None:
    with first_answer_lost():
        user_password_set(user_id=eve.user_id, password="another password", revision=0, actor=scene.admin)
    assert (User.find(eve.user_id).session_epoch, acts("user.password_set")) == (1, 1)


def test_configuring_an_agent(scene: Scene) -> None:
    agent_id = scene.agent().id
    with first_answer_lost():
        agent = agent_configure(
            agent_id=agent_id, labels=["gpu"], slots=2, deployment_targets=[], config_version=1, actor=scene.admin
        )
    assert (agent.labels, agent.config_version, acts("agent.configured")) == (["gpu"], 2, 1)


def test_revoking_an_enrolment_token(scene: Scene) -> None:
    token, _ = enrolment_token_create(
        uses=1, expires_at=clock.parse_timestamp("2099-01-01T00:00:00Z"), actor=scene.admin
    )
    with first_answer_lost():
        enrolment_token_revoke(token=token, actor=scene.admin)
    assert EnrolmentToken.find(token.hash) is None
    assert acts("enrolment_token.revoked") == 1


@pytest.mark.parametrize("change", [user_update, user_password_set])
def test_an_old_revision_changes_nothing(eve: User, scene: Scene, change: Callable[..., User]) -> None:
    user_update(**changes(eve), actor=scene.admin)
    arguments = changes(eve, name="Ivy") if change is user_update else {"user_id": eve.user_id, "revision": 0}
    if change is user_password_set:
        arguments["password"] = PASSWORD
    with pytest.raises(Conflict) as refusal:
        change(**arguments, actor=scene.admin)
    assert refusal.value.code == "changed_meanwhile"
    stored = User.find(eve.user_id)
    assert (stored.name, stored.password, stored.revision) == ("Eva", eve.password, 1)


def test_who_is_gone_is_not_made_again(eve: User, scene: Scene) -> None:
    eve.delete()
    with pytest.raises(NotFound):
        user_update(**changes(eve), actor=scene.admin)
    with pytest.raises(NotFound):
        user_password_set(user_id=eve.user_id, password=PASSWORD, revision=0, actor=scene.admin)
    assert User.find(eve.user_id) is None


def test_a_user_who_manages_agents_configures_one(scene: Scene) -> None:
    agent_id = scene.agent().id
    with pytest.raises(Forbidden):
        agent_configure(
            agent_id=agent_id,
            labels=[],
            slots=1,
            deployment_targets=[],
            config_version=1,
            actor=Actor("user", "olga", "Olga", frozenset(ROLES["operator"])),
        )
    assert Agent.find(agent_id).config_version == 1
