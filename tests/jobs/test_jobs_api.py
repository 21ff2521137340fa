"""``/jobs`` and ``/jobs/{job_id}`` over HTTP: the operations of people's programs, and their responses."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from apps.audit.selectors import audit_list
from apps.jobs.selectors import job_get, job_list
from apps.pipelines.services import pipeline_delete, pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import ID_PATTERN, new_id
from tests.clients import Client, problem
from tests.jobs.conftest import DEFINITION
from tests.signing import AgentClient

pytestmark = pytest.mark.usefixtures("pipeline")

JSON = {"Content-Type": "application/json"}
UNKNOWN = "01kasmewhere00000000000000"

Act = Callable[[Client], Any]


def created(client: Client, **members: Any) -> str:
    """The id of a new job."""
    answer = client.post("/jobs", json=members)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def shown(client: Client, job_id: str) -> dict[str, Any]:
    answer = client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def no_job_exists() -> bool:
    return job_list().total == 0


def acts(target: str) -> list[tuple[str, str]]:
    """Actor and action of today's audit events of this target, oldest first."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return [(record.actor_name, record.action) for record in reversed(records) if record.target == target]


# --- creating -------------------------------------------------------------------------------------------------------


def test_a_job_is_queued_by_query(operator: Client) -> None:
    answer = operator.post("/jobs?git_ref=release/1.2&pipeline=self&priority=70")
    assert answer.status_code == 201
    assert {name: text for name, text in answer.json().items() if not name.endswith("_id")} == {"status": "queued"}
    assert all(re.fullmatch(ID_PATTERN, answer.json()[name]) for name in ("job_id", "run_id"))
    job = shown(operator, answer.json()["job_id"])
    assert (job["git_ref"], job["pipeline"], job["priority"], job["status"]) == ("release/1.2", "self", 70, "queued")


def test_a_job_is_queued_by_json(operator: Client) -> None:
    answer = operator.post("/jobs", json={"git_ref": "v1.0", "labels": ["gpu", "linux"], "env": {"A": " x ", "B": ""}})
    assert (answer.status_code, answer.json()["status"]) == (201, "queued")
    job = job_get(answer.json()["job_id"])
    assert (job.git_ref, job.labels, job.env) == ("v1.0", ["gpu", "linux"], {"A": " x ", "B": ""})


def test_the_response_has_the_location_of_the_job(operator: Client) -> None:
    answer = operator.post("/jobs?git_ref=main")
    assert operator.request("GET", answer.headers["Location"].removeprefix(operator.server)).status_code == 200


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"data": b""},
        {"data": b"", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": {}},
    ],
)
def test_without_any_member_the_default_pipelines_default_ref_is_built(
    operator: Client, arguments: dict[str, Any]
) -> None:
    answer = operator.post("/jobs", **arguments)
    assert answer.status_code == 201, answer.text
    job = shown(operator, answer.json()["job_id"])
    assert (job["pipeline"], job["git_ref"], job["priority"]) == ("self", "main", 50)


def test_query_and_body_at_once_are_refused(operator: Client) -> None:
    answer = operator.post("/jobs?git_ref=main", json={"priority": 1})
    assert "not in both" in problem(answer, 400, "invalid_input")["detail"]
    assert no_job_exists()


@pytest.mark.parametrize("name", ["nowhere", "a" * 63])
def test_an_unknown_pipeline_is_not_found_and_named(operator: Client, name: str) -> None:
    for answer in (operator.post(f"/jobs?pipeline={name}"), operator.post("/jobs", json={"pipeline": name})):
        assert name in problem(answer, 404, "pipeline_not_found")["detail"]


def test_without_a_default_pipeline_the_error_names_it(operator: Client, admin: Client) -> None:
    assert admin.delete("/pipelines/self").status_code == 204
    assert "self" in problem(operator.post("/jobs?git_ref=main"), 404, "pipeline_not_found")["detail"]


NO_REFS = [
    "main;reboot",
    "$(reboot)",
    "`reboot`",
    "main && reboot",
    "main|sh",
    "main\nreboot",
    " main",
    "main ",
    "--upload-pack=reboot",
    "-b",
    "../../etc/passwd",
    "main..other",
    "a//b",
    "main.lock",
    "HEAD@{1}",
    "refs/heads/*",
    "main~1",
    "main^",
    "a:b",
    "a\\b",
    "ma\x00in",
    "ma\x7fin",
    "ma\u202ein",
    "ma\u00a0in",
    "a" * 256,
    "",
]


def test_an_invalid_ref_is_refused_before_anything_is_stored(operator: Client) -> None:
    for ref in NO_REFS:
        by_query = operator.post("/jobs", params={"git_ref": ref})
        by_json = operator.post("/jobs", json={"git_ref": ref})
        for answer in (by_query, by_json):
            assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "git_ref", ref
    assert no_job_exists()


def test_no_job_is_made_of_a_pipeline_whose_repository_is_not_allowed_any_more(operator: Client, settings: Any) -> None:
    settings.ALLOWED_REPOSITORIES = ["github.com/acme/*"]
    refused = problem(operator.post("/jobs", json={"pipeline": "self"}), 400, "repository_not_allowed")
    assert refused["errors"][0]["field"] == "pipeline"
    assert no_job_exists()


WRONG_MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"git_ref": 1}, "git_ref"),
    ({"git_ref": None}, "git_ref"),
    ({"git_ref": True}, "git_ref"),
    ({"git_ref": ["main"]}, "git_ref"),
    ({"git_ref": {"a": 1}}, "git_ref"),
    ({"pipeline": 5}, "pipeline"),
    ({"pipeline": "Not A Name"}, "pipeline"),
    ({"pipeline": "../self"}, "pipeline"),
    ({"pipeline": ""}, "pipeline"),
    ({"pipeline": "a" * 64}, "pipeline"),
    ({"priority": "5"}, "priority"),
    ({"priority": 5.0}, "priority"),
    ({"priority": 5.5}, "priority"),
    ({"priority": True}, "priority"),
    ({"priority": None}, "priority"),
    ({"priority": -1}, "priority"),
    ({"priority": 101}, "priority"),
    ({"priority": 10**40}, "priority"),
    ({"priority": []}, "priority"),
    ({"env": []}, "env"),
    ({"env": "A=1"}, "env"),
    ({"env": None}, "env"),
    ({"env": {"A": 1}}, "env.A"),
    ({"env": {"A": None}}, "env.A"),
    ({"env": {"A": True}}, "env.A"),
    ({"env": {"A": {"B": "c"}}}, "env.A"),
    ({"env": {"A": "x\x00y"}}, "env.A"),
    ({"env": {"": "x"}}, "env"),
    ({"env": {"1A": "x"}}, "env"),
    ({"env": {"A B": "x"}}, "env"),
    ({"env": {"A=B": "x"}}, "env"),
    ({"env": {"A\x00": "x"}}, "env"),
    ({"env": {"Ä": "x"}}, "env"),
    ({"env": {"A\n": "x"}}, "env"),
    ({"env": {"N" * 300: "x"}}, "env"),
    ({"env": {"A": "x" * 17_000}}, "env"),
    ({"env": {f"A{number}": "é" * 100 for number in range(100)}}, "env"),
    ({"labels": "gpu"}, "labels"),
    ({"labels": {"gpu": True}}, "labels"),
    ({"labels": None}, "labels"),
    ({"labels": [1]}, "labels[0]"),
    ({"labels": ["gpu", None]}, "labels[1]"),
    ({"labels": [["gpu"]]}, "labels[0]"),
    ({"labels": [""]}, "labels[0]"),
    ({"labels": ["a b"]}, "labels"),
    ({"labels": ["gpu\n"]}, "labels"),
    ({"labels": ["-gpu"]}, "labels"),
    ({"labels": ["x" * 64]}, "labels[0]"),
    ({"labels": [f"l{number}" for number in range(21)]}, "labels"),
    ({"ref": "main"}, "ref"),
    ({"gitref": "main"}, "gitref"),
    ({"status": "completed"}, "status"),
    ({"__proto__": {}}, "__proto__"),
    ({"x" * 10_000: 1}, "x" * 100),
]


def test_a_member_of_a_wrong_kind_is_refused_and_named(operator: Client) -> None:
    for members, field in WRONG_MEMBERS:
        body = problem(operator.post("/jobs", json=members), 400, "invalid_input")
        assert body["errors"][0]["field"] == field, members
        assert len(body["detail"]) < 1000
    assert no_job_exists()


WRONG_PARAMETERS = [
    ("priority=-1", "priority"),
    ("priority=1e3", "priority"),
    ("priority=1_0", "priority"),
    ("priority=5.0", "priority"),
    ("priority=%D9%A1", "priority"),
    ("priority=0x10", "priority"),
    ("priority=%205", "priority"),
    ("priority=", "priority"),
    ("priority=" + "9" * 5000, "priority"),
    ("git_ref=", "git_ref"),
    ("git_ref=%00", "git_ref"),
    ("git_ref=%ff", "git_ref"),
    ("git_ref=%ed%a0%80", "git_ref"),
    ("git_ref=main&git_ref=other", "git_ref"),
    ("ref=main", "ref"),
    ("env=A", "env"),
    ("labels=gpu", "labels"),
    ("=x", ""),
]


def test_a_parameter_of_a_wrong_kind_is_refused_and_named(operator: Client) -> None:
    for query, field in WRONG_PARAMETERS:
        body = problem(operator.post(f"/jobs?{query}"), 400, "invalid_input")
        assert body["errors"][0]["field"] == field, query
    assert no_job_exists()


NO_OBJECTS = [
    b"{",
    b"nonsense",
    b"[]",
    b'["git_ref"]',
    b"null",
    b"1",
    b'"main"',
    b"[" * 100_000,
    b'{"env":' * 10_000,
    b'{"git_ref": "\xff"}',
    '{"git_ref": "main"}'.encode("utf-16"),
    b'{"git_ref": "\\ud800"}',
    b'{"git_ref": "\\uDFFF\\ud800"}',
    b'{"env": {"A": "\\ud83d"}}',
    b'{"\\ud800": 1}',
    b'{"labels": ["\\udc00"]}',
    b'{"priority": NaN}',
    b'{"priority": Infinity}',
    b'{"priority": 1e999}',
    b'{"priority": ' + b"1" * 10_000 + b"}",
    b'{"git_ref": "a\x00b"}',
    b'{"git_ref": "main"} {}',
]


def test_a_body_that_is_not_a_json_object_is_refused(operator: Client) -> None:
    for body in NO_OBJECTS:
        answer = operator.post("/jobs", data=body, headers=JSON)
        problem(answer, 400, "malformed_json")
        # Python's own advice on long numbers is none for a client.
        assert "sys." not in answer.text
    assert no_job_exists()


def test_a_character_written_as_a_surrogate_pair_is_accepted(operator: Client) -> None:
    answer = operator.post("/jobs", data=b'{"env": {"MOOD": "\\ud83d\\ude00"}}', headers=JSON)
    assert answer.status_code == 201
    assert job_get(answer.json()["job_id"]).env == {"MOOD": "😀"}


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3_000_000])
def test_an_oversize_body_is_refused(operator: Client, size: int) -> None:
    problem(operator.post("/jobs", data=b'{"git_ref": "' + b"a" * size + b'"}', headers=JSON), 413, "too_large")
    assert no_job_exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_kind_of_body_is_refused(operator: Client, kind: str) -> None:
    answer = operator.post("/jobs", data=b"git_ref=main", headers={"Content-Type": kind})
    problem(answer, 415, "unsupported_media_type")


def test_creating_a_job_records_an_audit_event(operator: Client) -> None:
    job_id = created(operator, git_ref="v1")
    (record,) = [r for r in audit_list(day=clock.timestamp(clock.now())[:10]).records if r.target == f"job:{job_id}"]
    assert (record.actor_kind, record.actor_name, record.action, record.result) == (
        "token",
        "tests (operator@example.com)",
        "job.created",
        "ok",
    )
    assert record.detail == {"pipeline": "self", "git_ref": "v1", "retry_of": None}


# --- permissions ----------------------------------------------------------------------------------------------------


def test_a_viewer_may_only_read(viewer: Client, operator: Client) -> None:
    job_id = created(operator)
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/log"):
        assert viewer.get(path).status_code == 200
    for path in ("/jobs", f"/jobs/{job_id}/cancel", f"/jobs/{job_id}/retry"):
        problem(viewer.post(path), 403, "forbidden")
    assert shown(viewer, job_id)["status"] == "queued"
    assert job_list().total == 1


def test_an_outsider_may_do_nothing(outsider: Client, operator: Client) -> None:
    job_id = created(operator)
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/log", f"/jobs/{UNKNOWN}"):
        problem(outsider.get(path), 401, "not_authenticated")
    for path in ("/jobs", f"/jobs/{job_id}/cancel", f"/jobs/{job_id}/retry"):
        answer = outsider.post(path)
        problem(answer, 401, "not_authenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_admin_may_do_everything(admin: Client) -> None:
    job_id = created(admin)
    assert admin.post(f"/jobs/{job_id}/cancel").status_code == 200
    assert admin.post(f"/jobs/{job_id}/retry").status_code == 201


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_new_job_is_shown_with_every_promised_member(operator: Client) -> None:
    job_id = created(operator, git_ref="v1.0", labels=["gpu"])
    job = shown(operator, job_id)
    assert clock.parse_timestamp(job.pop("created_at")) <= clock.now()
    assert re.fullmatch(ID_PATTERN, job.pop("run_id"))
    assert job.pop("waiting")["code"] == "no_agents"
    pending = {"state": "pending", "exit_code": None, "started_at": None, "completed_at": None}
    assert job == {
        "job_id": job_id,
        "name": None,
        "status": "queued",
        "git_ref": "v1.0",
        "agent_id": None,
        "agent_name": None,
        "started_at": None,
        "completed_at": None,
        "exit_code": None,
        "logs_url": f"{operator.server}/jobs/{job_id}/log",
        "attempts": [],
        "retries_left": 2,
        "log_problem": None,
        "error_message": None,
        "pipeline": "self",
        "attempt": 0,
        "steps": [{"name": "lint", **pending}, {"name": "test", **pending}],
        "commit": None,
        "priority": 50,
        "labels": ["gpu"],
        "requested_by": "tests (operator@example.com)",
        "retry_of": None,
        "retried_by": [],
        "cancel_requested": False,
    }


def test_the_values_of_the_environment_are_never_shown(operator: Client, admin: Client) -> None:
    job_id = created(operator, env={"PASSWORD": "correct horse"})
    for path in (f"/jobs/{job_id}", "/jobs"):
        assert "correct horse" not in admin.get(path).text


def test_steps_follow_the_agents_heartbeats_while_the_job_runs(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    assignment = agent.take()
    steps = [
        {
            "name": "lint",
            "state": "completed",
            "exit_code": 0,
            "started_at": "2026-11-21T09:00:00.000000Z",
            "completed_at": "2026-11-21T09:00:05.250000Z",
        },
        {
            "name": "test",
            "state": "running",
            "exit_code": None,
            "started_at": "2026-11-21T09:00:05.300000Z",
            "completed_at": None,
        },
    ]
    agent.heartbeat(free_slots=0, running=[{**assignment, "steps": steps}])
    job = shown(operator, job_id)
    assert (job["status"], job["agent_id"], job["attempt"]) == ("running", agent.agent_id, 1)
    assert job["agent_name"] == "build-1"
    assert job["steps"] == steps
    assert job["started_at"] >= job["created_at"]


def test_an_ended_job_keeps_the_report_of_its_agent(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    assignment = agent.take()
    steps = [
        {
            "name": "lint",
            "state": "failed",
            "exit_code": 3,
            "started_at": "2026-11-21T09:00:00.000000Z",
            "completed_at": "2026-11-21T09:00:05.000000Z",
        },
        {"name": "test", "state": "skipped", "exit_code": None, "started_at": None, "completed_at": None},
    ]
    agent.finish(assignment, exit_code=3, error_message="step lint failed", steps=steps, commit="a" * 40)
    job = shown(operator, job_id)
    assert (job["status"], job["exit_code"], job["error_message"]) == ("failed", 3, "step lint failed")
    assert (job["steps"], job["commit"], job["agent_id"]) == (steps, "a" * 40, agent.agent_id)
    assert job["completed_at"] >= job["started_at"] >= job["created_at"]


@pytest.mark.parametrize("path", ["", "/log"])
def test_an_unknown_job_is_not_found(operator: Client, path: str) -> None:
    problem(operator.get(f"/jobs/{new_id()}{path}"), 404, "job_not_found")


@pytest.mark.parametrize("act", ["cancel", "retry"])
def test_nothing_can_be_done_to_an_unknown_job(operator: Client, act: str) -> None:
    problem(operator.post(f"/jobs/{new_id()}/{act}"), 404, "job_not_found")


NO_IDS = [
    "1",
    "x" * 26,
    "%00",
    "%ff",
    "..%2f",
    "01KAJ0B0000000000000000000",
    "01kaj0b0000000000000000000%0a",
    "a" * 5000,
]


def test_a_malformed_id_is_not_found(operator: Client) -> None:
    for text in NO_IDS:
        for path in (f"/jobs/{text}", f"/jobs/{text}/log"):
            problem(operator.get(path), 404, "job_not_found")
        problem(operator.post(f"/jobs/{text}/cancel"), 404, "job_not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", ""), ("DELETE", ""), ("PATCH", ""), ("POST", ""), ("GET", "/cancel")]
)
def test_an_unsupported_method_is_refused(operator: Client, method: str, path: str) -> None:
    job_id = created(operator)
    problem(operator.request(method, f"/jobs/{job_id}{path}"), 405, "method_not_allowed")


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once_and_never_dispatched(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    answer = operator.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["completed_at"]
    assert agent.heartbeat()["jobs"] == []
    assert [action for _, action in acts(f"job:{job_id}")] == ["job.created", "job.cancelled"]


def test_an_assigned_job_is_cancelled_at_once_and_its_agent_may_not_start_it(
    operator: Client, agent: AgentClient
) -> None:
    job_id = created(operator)
    (assignment,) = agent.heartbeat()["jobs"]
    assert operator.post(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    problem(agent.start(assignment), 409, "stale_attempt")
    assert agent.heartbeat()["jobs"] == []


def test_a_running_job_is_cancelled_through_its_agent(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    assignment = agent.take()
    answer = operator.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"], answer.json()["cancel_requested"]) == (200, "running", True)
    assert agent.heartbeat(running=[assignment])["wishes"] == [{**assignment, "wish": "cancel"}]
    assert agent.finish(assignment, exit_code=None, error_message="cancelled").status_code == 200
    assert shown(operator, job_id)["status"] == "cancelled"


def test_a_job_that_completes_after_a_cancel_request_is_completed(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    assignment = agent.take()
    operator.post(f"/jobs/{job_id}/cancel")
    assert agent.finish(assignment).status_code == 200
    assert shown(operator, job_id)["status"] == "completed"


def test_cancelling_again_changes_nothing(operator: Client, agent: AgentClient) -> None:
    waiting, running = created(operator, priority=1), created(operator, priority=90)
    agent.take()
    for _ in range(3):
        for job_id in (waiting, running):
            assert operator.post(f"/jobs/{job_id}/cancel").status_code == 200
    assert [action for _, action in acts(f"job:{waiting}")].count("job.cancelled") == 1
    assert [action for _, action in acts(f"job:{running}")].count("job.cancel_requested") == 1


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_job_that_has_ended_cannot_be_cancelled(operator: Client, agent: AgentClient, exit_code: int) -> None:
    job_id = created(operator)
    agent.finish(agent.take(), exit_code=exit_code)
    before = shown(operator, job_id)
    problem(operator.post(f"/jobs/{job_id}/cancel"), 409, "job_finished")
    assert shown(operator, job_id) == before


# --- running again --------------------------------------------------------------------------------------------------


def test_a_retry_of_an_ended_job_queues_a_new_job_like_it(operator: Client, agent: AgentClient) -> None:
    old = created(operator, git_ref="v1", priority=70, env={"A": "1"})
    agent.finish(agent.take(), exit_code=1)
    answer = operator.post(f"/jobs/{old}/retry")
    assert (answer.status_code, answer.json()["status"]) == (201, "queued")
    new = shown(operator, answer.json()["job_id"])
    assert new["job_id"] != old
    assert (new["retry_of"], new["git_ref"], new["priority"], new["attempt"]) == (old, "v1", 70, 0)
    assert (new["exit_code"], new["agent_id"], new["commit"], new["completed_at"]) == (None, None, None, None)
    assert job_get(new["job_id"]).env == {"A": "1"}
    assert [assignment["job_id"] for assignment in agent.heartbeat()["jobs"]] == [new["job_id"]]
    assert shown(operator, old)["status"] == "failed"


def test_a_retry_uses_the_current_pipeline(operator: Client, operator_actor: Actor, agent: AgentClient) -> None:
    old = created(operator)
    agent.finish(agent.take(), exit_code=1)
    pipeline_save(
        actor=operator_actor,
        name="self",
        repository="https://git.example.com/moved.git",
        default_ref="main",
        definition=DEFINITION.replace("lint", "check"),
    )
    new = job_get(operator.post(f"/jobs/{old}/retry").json()["job_id"])
    assert new.repository == "https://git.example.com/moved.git"
    assert new.steps is not None
    assert [step["name"] for step in new.steps] == ["check", "test"]


def test_a_job_that_has_not_ended_cannot_be_retried(operator: Client, agent: AgentClient) -> None:
    job_id = created(operator)
    problem(operator.post(f"/jobs/{job_id}/retry"), 409, "job_not_finished")
    agent.take()
    problem(operator.post(f"/jobs/{job_id}/retry"), 409, "job_not_finished")
    assert job_list().total == 1


def test_a_job_whose_pipeline_was_deleted_cannot_be_retried(
    operator: Client, operator_actor: Actor, agent: AgentClient
) -> None:
    job_id = created(operator)
    agent.finish(agent.take())
    pipeline_delete(actor=operator_actor, name="self")
    assert "self" in problem(operator.post(f"/jobs/{job_id}/retry"), 404, "pipeline_not_found")["detail"]
    assert shown(operator, job_id)["status"] == "completed"
