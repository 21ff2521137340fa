"""Agents and enrolment tokens in the admin."""

import re

import pytest

from apps.agents.models import Agent, EnrolmentToken
from apps.agents.selectors import agent_get
from apps.agents.services import agent_configure
from tests.admin.conftest import Browser, errors, form_values, keys, rows
from tests.clients import Client
from tests.dashboard.scene import Scene

LIST = "/admin/agents/agent/"
TOKENS = "/admin/agents/enrolmenttoken/"


def names(page: str) -> list[str]:
    return [row.split()[0] for row in rows(page)]


def test_agents_are_listed_by_region_and_name(viewer: Browser, scene: Scene) -> None:
    for name, region in (("Beta", "south"), ("alpha", "south"), ("gamma", "north")):
        scene.agent(name, region=region)
    assert names(viewer.page(LIST)) == ["gamma", "alpha", "Beta"]


def test_they_are_found_by_the_beginning_of_a_name_in_any_case_and_by_id(viewer: Browser, scene: Scene) -> None:
    scene.agent("Build-01", region="south")
    other = scene.agent("build-02", region="north")
    scene.agent("test-01")
    assert names(viewer.page(LIST, params={"q": "BUILD"})) == ["build-02", "Build-01"]
    assert names(viewer.page(LIST, params={"q": other.id.upper()})) == ["build-02"]


def test_they_are_filtered_by_region_and_status(admin: Browser, scene: Scene) -> None:
    south = scene.agent("south-01", region="south")
    scene.agent("south-02", region="south")
    scene.agent("north-01", region="north")
    admin.act(LIST, "drain", south.id)
    assert names(admin.page(LIST, params={"region": "south"})) == ["south-01", "south-02"]
    assert names(admin.page(LIST, params={"region": "south", "status": "draining"})) == ["south-01"]
    assert names(admin.page(LIST, params={"region": "south", "q": "south-02"})) == ["south-02"]


def test_their_keys_are_on_no_page(admin: Browser, scene: Scene) -> None:
    agent = scene.agent()
    encrypted = Agent.find(agent.id).keys[0].encrypted
    for path in (LIST, f"{LIST}{agent.id}/change/", f"{LIST}{agent.id}/history/"):
        assert encrypted not in admin.page(path)


def test_the_admin_configures_labels_slots_and_targets(admin: Browser, scene: Scene) -> None:
    agent = scene.agent()
    answer = admin.send(f"{LIST}{agent.id}/change/", labels="linux, gpu  cuda", slots="4", deployment_targets="staging")
    assert "was changed successfully" in admin.said(answer)
    stored = agent_get(agent.id)
    assert (stored.labels, stored.slots, stored.deployment_targets) == (["linux", "gpu", "cuda"], 4, ["staging"])
    assert stored.config_version == 2
    assert "agent configured" in rows(admin.page(f"{LIST}{agent.id}/history/"))[0]


def test_saving_the_current_values_changes_nothing(admin: Browser, scene: Scene) -> None:
    agent = scene.agent()
    assert admin.send(f"{LIST}{agent.id}/change/").status_code == 302
    assert agent_get(agent.id).config_version == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": "65"}, "less than or equal to 64"),
        ({"slots": "no"}, "Enter a whole number."),
        ({"labels": "white;space"}, "letters, digits and"),
        ({"labels": ",".join(f"l{number}" for number in range(21))}, "must have at most 20 entries"),
        ({"config_version": "x"}, "Enter a whole number."),
        ({"config_version": ""}, "This field is required."),
    ],
)
def test_a_wrong_value_is_reported_at_its_field(
    admin: Browser, scene: Scene, changes: dict[str, str], message: str
) -> None:
    agent = scene.agent()
    answer = admin.send(f"{LIST}{agent.id}/change/", **changes)
    assert answer.status_code == 200
    assert message in errors(answer.text)
    assert agent_get(agent.id).config_version == 1


def test_of_two_users_who_configure_one_agent_the_second_sees_the_current_values(admin: Browser, scene: Scene) -> None:
    agent = scene.agent()
    path = f"{LIST}{agent.id}/change/"
    mine = form_values(admin.page(path))
    agent_configure(
        agent_id=agent.id, labels=["theirs"], slots=2, deployment_targets=[], config_version=1, actor=scene.admin
    )
    answer = admin.post(path, data={**mine, "labels": "mine"})
    assert "Labels is now: theirs" in errors(answer.text)
    assert agent_get(agent.id).labels == ["theirs"]


def test_draining_resuming_and_retiring_are_acts(admin: Browser, scene: Scene) -> None:
    one, two = scene.agent("one"), scene.agent("two")
    assert "Gets no new work: one (office), two (office)." in admin.said(admin.act(LIST, "drain", one.id, two.id))
    assert "Takes work again: one (office)." in admin.said(admin.act(LIST, "resume", one.id))
    assert "for good" in admin.act(LIST, "retire", one.id, confirmed=False).text
    assert agent_get(one.id).status == "healthy"
    assert "Retired: one (office)." in admin.said(admin.act(LIST, "retire", one.id))
    said = admin.said(admin.act(LIST, "drain", one.id, two.id))
    assert "One (office): The agent is retired" in said
    assert "Gets no new work: two (office)." in said


def test_a_new_key_waits_for_the_agent(admin: Browser, scene: Scene) -> None:
    agent = scene.agent()
    before = agent_get(agent.id).keys[0].key_id
    admin.act(LIST, "rotate_key", agent.id)
    assert agent_get(agent.id).keys[0].key_id != before
    assert "agent key rotated" in rows(admin.page(f"{LIST}{agent.id}/history/"))[0]


def test_an_unhealthy_machine_says_why(viewer: Browser, scene: Scene) -> None:
    agent = scene.agent()
    scene.heartbeat(agent.id, fault="git is missing. Install it.")
    assert "git is missing. Install it." in viewer.page(f"{LIST}{agent.id}/change/")


def test_who_may_only_look_sees_no_form_and_no_acts(viewer: Browser, scene: Scene) -> None:
    agent = scene.agent()
    page = viewer.page(f"{LIST}{agent.id}/change/")
    assert "build-01" in page
    assert "linux" in page
    assert 'name="slots"' not in page
    assert "Drain" not in page
    token = form_values_token(viewer)
    assert (
        viewer.post(f"{LIST}{agent.id}/change/", data={"csrfmiddlewaretoken": token, "slots": "4"}).status_code == 403
    )
    viewer.post(
        LIST, data={"csrfmiddlewaretoken": token, "action": "retire", "_selected_action": agent.id, "confirmed": 1}
    )
    assert agent_get(agent.id).status == "healthy"


def form_values_token(browser: Browser) -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.page("/admin/"))[1]


def test_an_enrolment_token_is_shown_once_and_lets_a_machine_in(admin: Browser, server: str) -> None:
    answer = admin.send(f"{TOKENS}add/", name="office", uses="2", hours="3")
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    secret = re.search(r"hce_[\w-]{43}", answer.text)[0]
    page = admin.page(TOKENS)
    assert secret not in page
    (key,) = keys(page)
    assert secret not in admin.page(f"{TOKENS}{key}/change/")
    assert EnrolmentToken.find(key).uses_left == 2
    machine = {"token": secret, "name": "build-01", "region": "office"}
    assert Client(server).post("/agents/enrol", json=machine).status_code == 201
    assert "token created" in rows(admin.page(f"{TOKENS}{key}/history/"))[0]


def test_a_revoked_enrolment_token_enrols_no_agent(admin: Browser, server: str) -> None:
    secret = re.search(r"hce_[\w-]{43}", admin.send(f"{TOKENS}add/", name="office", uses="2", hours="3").text)[0]
    (key,) = keys(admin.page(TOKENS))
    assert "Revoked" in admin.said(admin.act(TOKENS, "revoke", key))
    assert rows(admin.page(TOKENS)) == []
    machine = {"token": secret, "name": "build-01", "region": "office"}
    assert Client(server).post("/agents/enrol", json=machine).status_code == 401


def test_enrolment_tokens_are_listed_newest_first_and_found_by_day(admin: Browser) -> None:
    for uses in ("1", "2", "3"):
        admin.send(f"{TOKENS}add/", name=f"for {uses}", uses=uses, hours="3")
    page = admin.page(TOKENS)
    assert [EnrolmentToken.find(key).uses_left for key in keys(page)] == [3, 2, 1]
    day = EnrolmentToken.find(keys(page)[0]).created_at[:10]
    assert len(rows(admin.page(TOKENS, params={"q": day}))) == 3
    assert rows(admin.page(TOKENS, params={"q": "2020"})) == []


def test_a_token_is_made_with_its_bounds_and_the_list_shows_how_many_uses_are_left(admin: Browser, server: str) -> None:
    bounds = {"labels": "linux, gpu", "regions": "eu us", "slots": "2", "deployment_targets": "staging"}
    answer = admin.send(f"{TOKENS}add/", name="The office's machines", uses="2", hours="3", **bounds)
    secret = re.search(r"hce_[\w-]{43}", answer.text)[0]
    machine = {"token": secret, "name": "build-01", "region": "eu"}
    enrolled = Client(server).post("/agents/enrol", json=machine)
    assert enrolled.status_code == 201
    (row,) = rows(admin.page(TOKENS))
    assert row.startswith("The office's machines 1 of 2 linux, gpu eu, us ")
    (key,) = keys(admin.page(TOKENS))
    details = admin.page(f"{TOKENS}{key}/change/")
    for shown in ("The office&#x27;s machines", "linux, gpu", "eu, us", "staging", "1 of 2"):
        assert shown in details
    agent = agent_get(enrolled.json()["agent_id"])
    assert (agent.labels, agent.deployment_targets) == (["linux", "gpu"], ["staging"])
    assert agent.token_id in admin.page(f"{LIST}{agent.agent_id}/change/")


def test_a_token_of_an_earlier_version_is_listed_by_its_time(admin: Browser) -> None:
    admin.send(f"{TOKENS}add/", name="office", uses="2", hours="3")
    (key,) = keys(admin.page(TOKENS))
    earlier = EnrolmentToken.find(key)
    earlier.update(actions=[EnrolmentToken.name.remove(), EnrolmentToken.uses.remove()])
    (row,) = rows(admin.page(TOKENS))
    assert row.startswith(f"token of {earlier.created_at[:16].replace('T', ' ')} 2 any any ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "This field is required."),
        ({"labels": "white;space"}, "letters, digits and"),
        ({"regions": "eu/central"}, "letters, digits and"),
        ({"slots": "65"}, "less than or equal to 64"),
        ({"uses": "100001"}, "less than or equal to 100000"),
    ],
)
def test_a_wrong_bound_is_reported_at_its_field(admin: Browser, changes: dict[str, str], message: str) -> None:
    answer = admin.send(f"{TOKENS}add/", **{"name": "office", "uses": "2", "hours": "3", **changes})
    assert answer.status_code == 200
    assert message in errors(answer.text)
    assert rows(admin.page(TOKENS)) == []
