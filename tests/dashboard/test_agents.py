"""The part of the page Agents about jobs for which slots are missing, and what admins do on an agent's page."""

from datetime import timedelta

import pytest

from apps.agents.selectors import agent_get
from apps.agents.services import agent_retire
from controlplane.lib import clock
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import SignedIn
from tests.dashboard.scene import Scene
from tests.dashboard.test_overview import words
from tests.dashboard.test_pipelines import send
from tests.metering import dynamodb_calls

PART = "/dashboard/agents/waiting"


def part(operator: Client) -> str:
    """The words of the part as htmx gets it."""
    return words(operator.get(PART, headers={"HX-Request": "true"}).text)


def test_the_page_loads_it_later_and_within_its_budget(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.agent()
    scene.job()
    with dynamodb_calls() as metering:
        page = operator.get("/dashboard/agents").text
    assert f'hx-get="{PART}"' in page
    assert metering.calls <= 6, metering.operations


def test_nothing_is_shown_while_healthy_agents_have_room_for_all_that_waits(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.agent()
    scene.job()
    assert part(operator) == ""
    assert "No job lacks a slot" in words(operator.get(PART).text)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ([], "none: any agent 2 12 s Start agents with 1 more slot, or wait until jobs end."),
        (
            ["gpu", "linux"],
            "No healthy agent has the label gpu. Start one that has, or correct the labels of the jobs.",
        ),
        (["arm", "gpu"], "No healthy agent has the labels arm, gpu. Start one that has"),
        (["deploy:production"], "No healthy agent has the deployment target production. An admin can give it to one."),
        (["deploy:production", "gpu"], "No healthy agent has the labels deploy:production, gpu."),
    ],
)
def test_jobs_that_lack_slots_are_shown_with_what_to_do(
    operator: Client, scene: Scene, labels: list[str], advice: str
) -> None:
    scene.pipeline()
    scene.agent()
    for _ in range(2):
        scene.job(labels=labels)
    with clock.shifted(timedelta(seconds=12)):
        text = part(operator)
    assert text.startswith("Waiting for agents")
    assert advice in text


def test_without_any_healthy_agent_it_says_to_start_one(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.job()
    assert "No healthy agent is there. Start one." in part(operator)


def test_labels_that_no_agent_has_together_are_said_so(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.agent(labels=["linux"])
    scene.agent("build-02", labels=["gpu"])
    scene.job(labels=["gpu", "linux"])
    assert "No healthy agent has all of these labels. Start one." in part(operator)


def test_it_costs_the_same_whatever_the_number_of_jobs(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    scene.agent()
    calls = []
    for jobs in (1, 9):
        for _ in range(jobs):
            scene.job()
        with dynamodb_calls() as metering:
            part(operator)
        calls.append(metering.operations)
    assert calls[0] == calls[1]
    assert metering.write_units == 0


def test_a_label_is_shown_as_text(operator: Client, scene: Scene) -> None:
    scene.pipeline()
    for _ in range(2):
        scene.job(labels=["a=b:c/d"])
    page = operator.get(PART).text
    assert '<span class="label">a=b:c/d</span>' in page
    assert "<html" in page


def test_an_admin_drains_and_resumes_an_agent_on_its_page(signed_in: SignedIn, operator: Client, scene: Scene) -> None:
    admin, agent = signed_in("admin"), scene.agent()
    path = f"agents/{agent.id}"
    page = admin.get(f"/dashboard/{path}").text
    assert f'href="/admin/agents/agent/{agent.id}/change/"' in page
    assert ('id="drain"' in page, 'id="resume"' in page) == (True, False)
    assert send(admin, f"{path}/drain") == (302, f"/dashboard/{path}")
    assert agent_get(agent.id).status == "draining"
    page = admin.get(f"/dashboard/{path}").text
    assert "build-01 gets no new jobs." in page
    assert ('id="drain"' in page, 'id="resume"' in page) == (False, True)
    assert send(admin, f"{path}/resume") == (302, f"/dashboard/{path}")
    assert agent_get(agent.id).status == "healthy"
    page = operator.get(f"/dashboard/{path}").text
    assert ('id="drain"' in page, "/admin/agents/" in page) == (False, False)
    assert send(operator, f"{path}/drain")[0] == 403
    agent_retire(agent_id=agent.id, actor=ADMIN)
    page = admin.get(f"/dashboard/{path}").text
    assert ('id="drain"' in page, 'id="resume"' in page) == (False, False)
    assert send(admin, f"{path}/drain")[0] == 409


def test_the_page_of_an_agent_keeps_its_budget(signed_in: SignedIn, scene: Scene) -> None:
    scene.pipeline()
    admin, agent = signed_in("admin"), scene.agent()
    scene.job()
    scene.start(agent)
    with dynamodb_calls() as metering:
        admin.get(f"/dashboard/agents/{agent.id}")
    assert metering.calls <= 6, metering.operations
