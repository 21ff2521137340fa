"""Enrolment tokens bind: an agent gets no more than its token allows."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command

from apps.agents.models import Agent, EnrolmentToken
from apps.agents.selectors import fleet_counts
from apps.agents.services import agent_configure, agent_enrol, enrolment_token_create, enrolment_token_revoke
from apps.audit.models import AuditRecord
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Forbidden, InvalidInput, NotAuthenticated
from controlplane.nosql.transaction import Transaction
from tests.agents.conftest import ENROLMENT, counters_are_right, stored_agent
from tests.agents.interleaving import before_first
from tests.agents.machines import Machine
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR

pytestmark = pytest.mark.usefixtures("tables")

PLAIN = {"name": "build-1", "region": "eu", "slots": 1}
BOUNDS: dict[str, Any] = {
    "labels": ["linux", "gpu"],
    "regions": ["eu", "us"],
    "slots": 4,
    "deployment_targets": ["staging"],
}


def make(**members: Any) -> tuple[EnrolmentToken, str]:
    return enrolment_token_create(
        **{"uses": 1, "expires_at": clock.now() + timedelta(hours=1), "actor": ADMIN, "name": "office", **members}
    )


def enrolled(secret: str, **members: Any) -> Agent:
    return stored_agent(agent_enrol(token=secret, **{"labels": [], **PLAIN, **members}).agent_id)


def refused_fields(secret: str, **members: Any) -> dict[str, str]:
    """The fields of an enrolment that goes beyond its token, with what the token allows."""
    with pytest.raises(Forbidden) as caught:
        enrolled(secret, **members)
    assert caught.value.code == "enrolment_beyond_token"
    return {error["field"]: error["message"] for error in caught.value.errors}


def left(token: EnrolmentToken) -> int:
    return int(EnrolmentToken.get(token.hash).uses_left)


def events(action: str) -> list[AuditRecord]:
    return [record for record in AuditRecord.scan() if record.action == action]


# --- what a token allows --------------------------------------------------------------------------------------------


def test_an_agent_within_its_tokens_bounds_is_enrolled_and_keeps_the_tokens_id() -> None:
    token, secret = make(**BOUNDS)
    agent = enrolled(secret, labels=["gpu"], region="us", slots=4)
    assert (agent.labels, agent.region, agent.slots, agent.deployment_targets) == (["gpu"], "us", 4, ["staging"])
    assert agent.token_id == token.token_id


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({"labels": ["gpu", "never", "mine"]}, {"labels": "must be among linux, gpu, without mine, never"}),
        ({"region": "asia"}, {"region": "must be eu or us"}),
        ({"slots": 5}, {"slots": "must be at most 4"}),
        (
            {"labels": ["mine"], "region": "asia", "slots": 64},
            {
                "labels": "must be among linux, gpu, without mine",
                "region": "must be eu or us",
                "slots": "must be at most 4",
            },
        ),
    ],
)
def test_an_enrolment_beyond_its_token_is_refused_with_what_is_allowed(
    members: Mapping[str, Any], fields: Mapping[str, str]
) -> None:
    token, secret = make(**BOUNDS)
    assert refused_fields(secret, **members) == fields
    # It costs no use and leaves nothing behind.
    assert (left(token), fleet_counts(), events("agent.enrolled")) == (1, {}, [])


def test_the_refusal_over_http_names_the_fields(server: str) -> None:
    _, secret = make(**BOUNDS)
    answer = Client(server).post("/agents/enrol", json=ENROLMENT | {"token": secret, "slots": 64, "region": "eu"})
    assert problem(answer, 403, "enrolment_beyond_token")["errors"] == [
        {"field": "slots", "message": "must be at most 4"}
    ]


def test_each_bound_holds_alone() -> None:
    for bound, members in (
        ({"labels": ["linux"]}, {"labels": ["x"]}),
        ({"regions": ["us"]}, {"region": "eu"}),
        ({"slots": 1}, {"slots": 2}),
    ):
        _, secret = make(**bound)
        assert len(refused_fields(secret, **members)) == 1
        other = {"labels": ["x"], "region": "eu", "slots": 2}
        within = {name: value for name, value in other.items() if name not in members} | {"labels": ["linux"]}
        assert enrolled(secret, **({"region": "us"} if "regions" in bound else {}), **within)


def test_a_token_without_bounds_allows_any_labels_region_and_slots() -> None:
    _, secret = make()
    agent = enrolled(secret, labels=["x", "y", "x"], region="asia", slots=64)
    assert (agent.labels, agent.region, agent.slots, agent.deployment_targets) == (["x", "y"], "asia", 64, [])


def test_a_token_that_an_earlier_version_stored_has_no_bounds() -> None:
    token, secret = make(**BOUNDS)
    token.update(
        actions=[
            getattr(EnrolmentToken, name).remove()
            for name in ("name", "uses", "labels", "regions", "slots", "deployment_targets")
        ]
    )
    agent = enrolled(secret, labels=["x"], region="asia", slots=64)
    assert (agent.labels, agent.slots, agent.deployment_targets) == (["x"], 64, [])


# --- labels that are left out, and containers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "asked", "granted"),
    [
        (["linux", "gpu"], [], ["linux", "gpu"]),
        (["linux", "gpu"], ["gpu"], ["gpu"]),
        # The agent program adds `container` by itself if its machine can run containers.
        (["linux", "gpu"], ["container"], ["linux", "gpu"]),
        (["linux", "gpu"], ["gpu", "container"], ["gpu"]),
        (["linux", "container"], ["container"], ["linux", "container"]),
        (["linux", "container"], ["linux", "container"], ["linux", "container"]),
        # A machine that cannot run containers would fail jobs in containers.
        (["linux", "container"], [], ["linux"]),
        (["container"], [], []),
        (["container"], ["container"], ["container"]),
        ([], ["container"], ["container"]),
        ([], [], []),
    ],
)
def test_labels_that_an_enrolment_leaves_out_are_those_of_the_token(
    allowed: list[str], asked: list[str], granted: list[str]
) -> None:
    _, secret = make(labels=allowed)
    assert enrolled(secret, labels=asked).labels == granted


# --- what an agent does later ---------------------------------------------------------------------------------------


def test_a_repeated_enrolment_never_exceeds_the_token() -> None:
    token, secret = make(**BOUNDS, uses=2)
    first = enrolled(secret, slots=2, idempotency_key="k" * 16)
    again = enrolled(secret, slots=4, labels=["gpu"], idempotency_key="k" * 16)
    assert (again.agent_id, again.slots, again.labels) == (first.agent_id, 2, ["linux", "gpu"])
    assert set(refused_fields(secret, slots=5, idempotency_key="k" * 16)) == {"slots"}
    assert left(token) == 1


def test_heartbeats_never_exceed_the_token(server: str) -> None:
    _, secret = make(**BOUNDS)
    credentials = agent_enrol(token=secret, labels=[], **PLAIN)  # type: ignore[arg-type]
    machine = Machine(server, credentials.agent_id, credentials.key_id, credentials.secret)
    before = stored_agent(machine.agent_id)
    claims = {"labels": ["mine"], "slots": 64, "region": "asia", "deployment_targets": ["production"]}
    assert machine.heartbeat(free_slots=64, **claims).status_code == 200
    after = stored_agent(machine.agent_id)
    assert [getattr(after, name) for name in claims] == [getattr(before, name) for name in claims]
    assert machine.config().json()["deployment_targets"] == ["staging"]


def test_a_user_may_configure_an_agent_beyond_its_token() -> None:
    _, secret = make(**BOUNDS)
    agent = enrolled(secret)
    changes: dict[str, Any] = {"labels": ["mine"], "slots": 64, "deployment_targets": ["production"]}
    changed = agent_configure(agent_id=agent.agent_id, **changes, config_version=1, actor=ADMIN)
    assert {name: getattr(changed, name) for name in changes} == changes


# --- uses and expiry ------------------------------------------------------------------------------------------------


def test_of_two_enrolments_at_the_last_use_one_is_refused_whichever_writes_first() -> None:
    token, secret = make()
    winners: list[Agent] = []
    # Both have read that one use is left. The second one writes first.
    with (
        before_first(Transaction, "commit", lambda: winners.append(enrolled(secret, name="second"))),
        pytest.raises(NotAuthenticated) as caught,
    ):
        enrolled(secret, name="first")
    assert caught.value.code == "enrolment_token_used"
    assert [agent.name for agent in Agent.scan()] == ["second"] == [agent.name for agent in winners]
    assert (left(token), counters_are_right()) == (0, True)
    assert len(events("agent.enrolled")) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda token: enrolment_token_revoke(token=token, actor=ADMIN), "enrolment_token_invalid"),
        (
            lambda token: token.update(actions=[EnrolmentToken.expires_at.set(clock.now() - timedelta(minutes=1))]),
            "enrolment_token_expired",
        ),
    ],
)
def test_a_token_that_ends_while_it_enrols_enrols_no_agent(
    change: Callable[[EnrolmentToken], object], code: str
) -> None:
    token, secret = make()
    with before_first(Transaction, "commit", lambda: change(token)), pytest.raises(NotAuthenticated) as caught:
        enrolled(secret)
    assert caught.value.code == code
    assert list(Agent.scan()) == []


def test_a_token_that_has_expired_or_is_used_up_is_said_to_be_so_before_its_bounds() -> None:
    _, secret = make(**BOUNDS)
    with clock.shifted(timedelta(hours=2)), pytest.raises(NotAuthenticated, match="expired"):
        enrolled(secret, slots=64)
    enrolled(secret)
    with pytest.raises(NotAuthenticated, match="no uses left"):
        enrolled(secret, slots=64)


# --- making and revoking --------------------------------------------------------------------------------------------


def test_making_a_token_is_recorded_with_its_bounds_and_without_its_secret() -> None:
    token, secret = make(**BOUNDS, uses=3)
    (event,) = events("enrolment_token.created")
    assert event.target == f"enrolment_token:{token.token_id}"
    assert event.detail == {
        "name": "office",
        "uses": 3,
        "expires_at": clock.timestamp(token.expires_at),
        "labels": "linux, gpu",
        "regions": "eu, us",
        "slots": 4,
        "deployment_targets": "staging",
    }
    assert secret not in str(event.to_simple_dict())
    assert token.hash not in str(event.to_simple_dict())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uses", 0),
        ("uses", -1),
        ("uses", 100_001),
        ("expires_at", clock.now() - timedelta(seconds=1)),
        ("name", "x" * 101),
        ("name", "a\nb"),
        ("labels", ["-x"]),
        ("labels", [f"l{number}" for number in range(21)]),
        ("regions", ["a b"]),
        ("regions", [f"r{number}" for number in range(21)]),
        ("slots", 0),
        ("slots", 65),
        ("deployment_targets", ["a b"]),
    ],
)
def test_a_senseless_token_is_not_made(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(**{field: value})
    assert [error["field"] for error in caught.value.errors] == [field]
    assert list(EnrolmentToken.scan()) == []


def test_the_extremes_of_a_token_are_allowed() -> None:
    many = [f"l{number}" for number in range(20)]
    token, _ = make(uses=100_000, name="x" * 100, labels=many, regions=many, slots=64, deployment_targets=many)
    assert (token.uses_left, token.slots, token.labels) == (100_000, 64, many)
    assert make(uses=1, slots=1, name="")[0].slots == 1


def test_the_services_themselves_refuse_users_without_the_permission() -> None:
    token, _ = make()
    for actor in (OPERATOR, Actor("user", "eve", "Eve")):
        with pytest.raises(Forbidden):
            make(actor=actor)
        with pytest.raises(Forbidden):
            enrolment_token_revoke(token=token, actor=actor)
    assert [stored.token_id for stored in EnrolmentToken.scan()] == [token.token_id]


def test_a_revoked_token_enrols_no_agent_and_its_agents_stay() -> None:
    token, secret = make(uses=5)
    agent = enrolled(secret)
    enrolment_token_revoke(token=token, actor=ADMIN)
    with pytest.raises(NotAuthenticated) as caught:
        enrolled(secret)
    assert caught.value.code == "enrolment_token_invalid"
    assert stored_agent(agent.agent_id).status == "healthy"
    (event,) = events("enrolment_token.revoked")
    assert event.detail == {"name": "office", "uses_left": 5}
    # Again, it is no error and no event.
    enrolment_token_revoke(token=token, actor=ADMIN)
    assert len(events("enrolment_token.revoked")) == 1


# --- the command ----------------------------------------------------------------------------------------------------


def printed(*arguments: str) -> str:
    out = StringIO()
    call_command("enrolment_token", *arguments, stdout=out)
    return out.getvalue().strip()


def test_the_command_prints_a_token_with_these_bounds(server: str) -> None:
    bounds = ("--name", "office", "--labels", "linux,gpu", "--regions", "eu", "--slots", "2")
    secret = printed("--uses", "2", "--hours", "1", *bounds, "--deployment-targets", "staging")
    (token,) = EnrolmentToken.scan()
    assert (token.name, token.labels, token.regions, token.slots) == ("office", ["linux", "gpu"], ["eu"], 2)
    assert token.deployment_targets == ["staging"]

    def enrol() -> requests.Response:
        return Client(server).post("/agents/enrol", json={"token": secret, "name": "a", "region": "eu"})

    assert [enrol().status_code for _ in range(3)] == [201, 201, 401]


def test_a_token_of_the_command_has_no_bounds_unless_they_are_given() -> None:
    agent = enrolled(printed(), labels=["x"], region="asia", slots=64)
    assert (agent.labels, agent.slots, agent.deployment_targets) == (["x"], 64, [])


@pytest.mark.parametrize(
    "arguments",
    [["--uses", "0"], ["--hours", "-1"], ["--hours", "999999999999"], ["--labels", "-x"], ["--slots", "65"]],
)
def test_the_command_refuses_senseless_values(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("enrolment_token", *arguments, stdout=StringIO())
