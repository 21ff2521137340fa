"""``GET /metrics``: queue and fleet in Prometheus' format."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from apps.accounts.selectors import user_by_email
from apps.accounts.services import api_token_create
from apps.agents.services import agents_mark_silent
from apps.jobs.api.metrics import exposition
from apps.jobs.selectors.counters import DayOutcomes
from apps.jobs.selectors.demand import Capacity, Demand, RegionView, SetDemand
from apps.jobs.selectors.queue import FIGURED_ENTRIES, queue_figures
from apps.secrets.services import secret_create
from apps.secrets.services.rotation_plans import rotation_configure
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM
from tests.clients import Client, problem
from tests.conftest import ADMIN, OPERATOR
from tests.metering import dynamodb_calls
from tests.signing import AgentClient, enrolled

# The Accept header of Prometheus 3.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Every value by its name and labels, read by Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(client: Client) -> Samples:
    answer = client.get("/metrics", headers={"Accept": ACCEPT})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def test_an_empty_control_plane_reports_zeros_and_its_version(viewer: Client) -> None:
    found = scraped(viewer)
    assert found["hybrid_ci_build_info", (("stage", "test"), ("version", "0.1.0"))] == 1
    assert found["hybrid_ci_queue_depth", ()] == found["hybrid_ci_queue_oldest_wait_seconds", ()] == 0
    assert found["hybrid_ci_jobs_ended_total", (("result", "failed"),)] == 0


@pytest.mark.usefixtures("noon")
def test_jobs_and_agents_are_counted(viewer: Client, agent: AgentClient, make_job: Callable[..., str]) -> None:
    make_job()
    agent.finish(agent.take())
    make_job()
    agent.finish(agent.take(), exit_code=1)
    make_job(labels=["gpu"])
    with clock.shifted(timedelta(minutes=6)):
        agents_mark_silent()
        found = scraped(viewer)
    assert found["hybrid_ci_jobs_created_total", ()] == 3
    assert found["hybrid_ci_jobs_ended_total", (("result", "completed"),)] == 1
    assert found["hybrid_ci_jobs_ended_total", (("result", "failed"),)] == 1
    assert found["hybrid_ci_queue_depth", ()] == 1
    assert found["hybrid_ci_queue_oldest_wait_seconds", ()] == pytest.approx(360, abs=5)
    assert found["hybrid_ci_agents", (("region", "eu"), ("status", "dead"))] == 1


def test_it_costs_the_same_whatever_the_number_of_jobs(viewer: Client, make_job: Callable[..., str]) -> None:
    make_job()
    scraped(viewer)
    with dynamodb_calls() as few:
        scraped(viewer)
    for _ in range(30):
        make_job()
    with dynamodb_calls() as many:
        found = scraped(viewer)
    assert found["hybrid_ci_queue_depth", ()] == 31
    # The token with its owner; the registry and its one set, today's counters, the fleet.
    assert many.operations == few.operations == ["BatchGetItem", *["Query"] * 4]


def test_only_a_part_of_a_long_queue_is_read(make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.jobs.selectors.queue.FIGURED_ENTRIES", 3)
    for _ in range(5):
        make_job()
    assert queue_figures().depth == 3
    assert queue_figures().is_lower_bound
    assert FIGURED_ENTRIES * 200 < 1024 * 1024


def test_it_needs_the_permissions_to_read_jobs_and_agents(server: str, outsider: Client, viewer: Client) -> None:
    problem(outsider.get("/metrics", headers={"Accept": ACCEPT}), 401, "not_authenticated")
    owner = user_by_email("viewer@example.com")
    assert owner is not None
    for permissions, status in [(["jobs.read"], 403), (["agents.read"], 403), (["jobs.read", "agents.read"], 200)]:
        _, secret = api_token_create(user=owner, name=str(permissions), permissions=permissions, actor=SYSTEM)
        assert Client(server, secret).get("/metrics").status_code == status


@pytest.mark.usefixtures("tables")
def test_rotations_that_need_a_user_are_counted_for_those_who_may_read_secrets(
    viewer: Client, operator: Client
) -> None:
    secret_create(actor=OPERATOR, name="DATABASE_URL", value="a value of a secret")
    daily = {"every_days": 1, "at": "03:00"}
    plan = rotation_configure(actor=ADMIN, secret_id="DATABASE_URL", rotator="generated", schedule=daily)
    late = clock.parse_timestamp(plan.due_at) + timedelta(hours=2) - clock.now()
    assert ("hybrid_ci_rotations_alarming", ()) not in scraped(viewer)
    assert scraped(operator)["hybrid_ci_rotations_alarming", ()] == 0
    with clock.shifted(late):
        assert scraped(operator)["hybrid_ci_rotations_alarming", ()] == 1


def test_a_region_and_a_label_may_have_any_name() -> None:
    odd = 'eu"west\\1\n'
    capacity = Capacity(agents=2, slots=8, used_slots=3, free_slots=5)
    waiting = SetDemand(
        labels=("gpu", odd),
        missing_labels=(),
        waiting=7,
        is_lower_bound=False,
        oldest_wait_seconds=90.5,
        capacity=capacity,
        slots_missing=2,
    )
    demand = Demand(
        sets=(waiting,),
        regions=(RegionView(odd, {"healthy": 2}, capacity),),
        capacity=capacity,
        is_lower_bound=False,
        is_partial=False,
    )
    found = samples(exposition(demand, DayOutcomes(day=clock.now().date())).decode())
    assert found["hybrid_ci_agents", (("region", odd), ("status", "healthy"))] == 2
    assert found["hybrid_ci_free_slots", (("region", odd),)] == 5
    assert found["hybrid_ci_label_set_slots_missing", (("labels", f"gpu,{odd}"),)] == 2


def test_each_label_set_in_which_jobs_wait_has_gauges(viewer: Client, make_job: Callable[..., str]) -> None:
    enrolled(viewer.server, labels=["linux"], slots=2).heartbeat(free_slots=2)
    make_job(labels=["gpu", "linux"])
    for _ in range(3):
        make_job(labels=["linux"])
    with clock.shifted(timedelta(seconds=30)):
        found = scraped(viewer)
    both = [(("labels", name),) for name in ("gpu,linux", "linux")]
    for name, values in {"waiting": [1, 3], "slots": [0, 2], "free_slots": [0, 2], "slots_missing": [1, 1]}.items():
        assert [found[f"hybrid_ci_label_set_{name}", labels] for labels in both] == values
    waits = [found["hybrid_ci_label_set_oldest_wait_seconds", labels] for labels in both]
    assert waits == pytest.approx([30, 30], abs=5)
    assert [found[f"hybrid_ci_{name}", (("region", "eu"),)] for name in ("slots", "free_slots")] == [2, 2]


def test_a_scrape_has_as_many_label_sets_as_are_read_at_most(
    viewer: Client, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.jobs.selectors.queue.FIGURED_SETS", 2)
    for label in ("a", "b", "c"):
        make_job(labels=[label])
    assert sum(name == "hybrid_ci_label_set_waiting" for name, _ in scraped(viewer)) == 2
