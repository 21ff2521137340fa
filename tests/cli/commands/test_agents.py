"""``hci agents demand`` and ``hci agents regions``."""

from collections.abc import Callable

from apps.agents.services import agent_configure
from tests.cli.conftest import Scripted, answer, hci
from tests.clients import Client
from tests.conftest import ADMIN
from tests.signing import enrolled

MakeJob = Callable[..., str]


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_label_sets_that_wait_are_listed_with_the_slots_that_they_lack(user: Client, make_job: MakeJob) -> None:
    enrolled(user.server, labels=["linux"], slots=2).heartbeat(free_slots=2)
    for labels in (["gpu", "linux"], ["linux"], ["linux"], ["linux"]):
        make_job(labels=labels)
    titles, *rows = lines(hci("agents", "demand").out)
    assert titles == ["LABELS", "WAITING", "OLDEST", "AGENTS", "FREE", "MISSING"]
    assert sorted([row[:2] + row[3:] for row in rows]) == [
        ["gpu,linux", "1", "0", "0/0", "1"],
        ["linux", "3", "1", "2/2", "1"],
    ]
    assert hci("agents", "demand", "--labels", "linux", "-q").out == "linux\n"
    assert hci("agents", "demand", "--labels", "linux", "--json").json["slots_wanted"] == 3


def test_agents_are_listed_with_their_deployment_targets(user: Client) -> None:
    agent = enrolled(user.server, slots=2)
    agent_configure(
        agent_id=agent.agent_id,
        slots=2,
        labels=["linux"],
        deployment_targets=["production", "staging"],
        config_version=1,
        actor=ADMIN,
    )
    titles, row = hci("agents").out.splitlines()
    place = titles.index("TARGETS")
    assert row[place:].startswith("production, staging")


def test_jobs_without_labels_wait_for_any_agent(user: Client, make_job: MakeJob) -> None:
    assert hci("agents", "demand").err == "There are none.\n"
    make_job()
    assert "(any agent)" in hci("agents", "demand", "--labels", "").out


def test_the_regions_are_listed_with_their_agents(user: Client) -> None:
    enrolled(user.server, slots=2).heartbeat(free_slots=1)
    titles, row = lines(hci("agents", "regions").out)
    assert titles == ["REGION", "HEALTHY", "UNHEALTHY", "DEAD", "DRAINING", "RETIRED", "FREE"]
    assert row == ["eu", "1", "0", "0", "0", "0", "1/2"]
    assert hci("agents", "regions", "-q").out == "eu\n"


def test_labels_that_no_agent_can_have_are_refused(user: Client) -> None:
    ended = hci("agents", "demand", "--labels", "linux, gpu")
    assert ended.code == 2
    assert "labels" in ended.err


def test_a_count_that_is_a_lower_bound_has_a_plus(scripted: Scripted) -> None:
    found = {
        "name": "gpu",
        "waiting": 1000,
        "is_lower_bound": True,
        "oldest_wait_seconds": 4000.5,
        "capacity": {"agents": 0, "slots": 0, "free_slots": 0},
        "slots_missing": 1000,
    }
    scripted.answers = [answer({"label_sets": [found]})]
    assert lines(hci("agents", "demand").out)[1] == ["gpu", "1000+", "1h", "0", "0/0", "1000"]


def test_an_answer_of_another_form_is_said_so(scripted: Scripted) -> None:
    for wrong in (
        {},
        {"label_sets": [{"name": "gpu"}]},
        {"label_sets": [{"capacity": {}, "oldest_wait_seconds": 1e999}]},
    ):
        scripted.answers = [answer(wrong)]
        assert hci("agents", "demand").code == 5
