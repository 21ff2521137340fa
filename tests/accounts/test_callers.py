"""``GET /auth/whoami``: a program learns whose credentials it has, and what they allow."""

from apps.accounts.policies import ROLES
from apps.accounts.selectors import user_get
from apps.accounts.services import api_token_create
from controlplane.lib.actor import SYSTEM
from tests.clients import Client, problem


def test_a_token_learns_its_user_and_its_permissions(server: str, operator: Client) -> None:
    found = operator.get("/auth/whoami").json()
    assert (found["kind"], found["permissions"]) == ("token", sorted(ROLES["operator"]))
    user = user_get(found["user_id"])
    assert user.email == "operator@example.com"
    _, few = api_token_create(user=user, name="few", actor=SYSTEM, permissions=["jobs.read"])
    assert Client(server, few).get("/auth/whoami").json()["permissions"] == ["jobs.read"]


def test_a_stranger_and_a_revoked_token_learn_nothing(server: str, outsider: Client) -> None:
    problem(outsider.get("/auth/whoami"), 401, "not_authenticated")
    problem(Client(server, "hcp_x").get("/auth/whoami"), 401, "token_invalid")
