"""`/runs` over HTTP: starting, listing, looking at, cancelling and running again."""

import pytest

from apps.jobs.models import Run
from apps.jobs.selectors.runs import run_view
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.jobs.runs import DIAMOND, STEPS, Worker


@pytest.fixture
def graph(server: str, worker: Worker) -> str:
    """The id of a run whose first job has read a diamond."""
    return worker.run(DIAMOND)


def test_a_run_is_started_and_its_first_job_and_its_address_are_named(operator: Client, worker: Worker) -> None:
    answer = operator.post("/runs", json={"pipeline": "graph", "git_ref": "v1", "parameters": {"a": 1, "b": "x"}})
    assert (answer.status_code, answer.json()["status"]) == (201, "queued")
    run = operator.get(answer.headers["Location"].partition("/runs")[1] + f"/{answer.json()['run_id']}").json()
    assert (run["job_id"], run["git_ref"], run["event"], run["status"]) == (
        answer.json()["job_id"],
        "v1",
        "api",
        "queued",
    )
    assert [(job["name"], job["status"]) for job in run["jobs"]] == [("main", "queued")]


@pytest.mark.parametrize(("query", "reuse"), [("", None), ("?reuse=false", False), ("?reuse=true", None)])
def test_a_run_may_do_all_of_its_work_anew(operator: Client, worker: Worker, query: str, reuse: bool | None) -> None:
    run_id = operator.post(f"/runs{query}", json={"pipeline": "graph"}).json()["run_id"]
    assert Run.get(run_id, "run").reuse is reuse


def test_a_run_has_its_jobs_with_what_they_need_and_wait_for(operator: Client, graph: str) -> None:
    run = operator.get(f"/runs/{graph}").json()
    assert (run["status"], run["jobs_total"]) == ("running", 4)
    jobs = {job["name"]: job for job in run["jobs"]}
    assert (jobs["ship"]["needs"], jobs["ship"]["status"]) == (["lint", "test"], "waiting")
    assert jobs["ship"]["waiting"]["code"] == "needs"
    assert "lint, test" in jobs["ship"]["waiting"]["message"]
    job = operator.get(f"/jobs/{jobs['ship']['job_id']}").json()
    assert (job["name"], job["run_id"], job["waiting"]["code"]) == ("ship", graph, "needs")


def test_runs_are_listed_newest_first_by_pipeline_branch_status_and_event(
    operator: Client, worker: Worker, graph: str
) -> None:
    other = worker.run(STEPS, git_ref="v2")

    def listed(query: str) -> list[str]:
        return [run["run_id"] for run in operator.get(f"/runs?{query}").json()["runs"]]

    assert listed("") == listed("pipeline=graph") == [other, graph]
    assert (listed("branch=v2"), listed("status=running"), listed("status=completed")) == ([other], [graph], [other])
    assert (listed("event=page"), listed("pipeline=none")) == ([], [])
    first = operator.get("/runs?limit=1").json()
    assert [run["run_id"] for run in operator.get(f"/runs?limit=1&cursor={first['next_cursor']}").json()["runs"]] == [
        graph
    ]
    problem(operator.get("/runs?cursor=x"), 400, "invalid_cursor")


def test_a_run_is_cancelled_and_run_again(operator: Client, graph: str) -> None:
    run = operator.post(f"/runs/{graph}/cancel").json()
    assert (run["status"], {job["status"] for job in run["jobs"][1:]}) == ("cancelled", {"cancelled"})
    problem(operator.post(f"/runs/{graph}/cancel"), 409, "run_finished")
    run = operator.post(f"/runs/{graph}/retry", json={}).json()
    assert (run["status"], run["jobs"][1]["status"]) == ("running", "queued")
    assert run["jobs"][1]["retry_of"]
    problem(operator.post(f"/runs/{graph}/retry", json={}), 409, "run_nothing_to_retry")


def test_a_run_that_does_not_exist_is_not_found(operator: Client) -> None:
    problem(operator.get(f"/runs/{new_id()}"), 404, "run_not_found")
    problem(operator.post(f"/runs/{new_id()}/cancel"), 404, "run_not_found")
    problem(operator.post(f"/runs/{new_id()}/retry", json={"everything": True}), 404, "run_not_found")


def test_parameters_that_are_none_are_refused(operator: Client, worker: Worker) -> None:
    wrong: tuple[dict[str, object], ...] = ({"a": None}, {"a": []}, {"a": "x" * 1001}, {str(n): 1 for n in range(51)})
    for given in wrong:
        answer = problem(operator.post("/runs", json={"pipeline": "graph", "parameters": given}), 400, "invalid_input")
        assert answer["errors"][0]["field"].startswith("parameters")


def test_viewers_look_at_runs_and_change_none(viewer: Client, graph: str) -> None:
    assert viewer.get(f"/runs/{graph}").status_code == 200
    for path in ("/runs", f"/runs/{graph}/cancel", f"/runs/{graph}/retry"):
        problem(viewer.post(path, json={}), 403, "forbidden")
    assert run_view(graph).run.status == "running"
