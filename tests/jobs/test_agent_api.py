"""What agents say of jobs over HTTP: heartbeats that bring work, start, definition, log, finish; all signed."""

import gzip
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache

from apps.agents.services import agent_drain, agents_mark_silent
from apps.audit.selectors import audit_list
from apps.jobs.label_sets import set_id
from apps.jobs.models import LogChunk
from apps.jobs.selectors import job_get
from apps.jobs.selectors.queue import queue_head
from apps.jobs.services import leases_expire
from apps.pipelines.services import pipeline_save
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.polling import polled
from tests.signing import AgentClient, Signed, enrolled, finish_body

MakeJob = Callable[..., str]

# Of a job without artifacts, caches, reports and outputs.
NOTHING_EXCHANGED: dict[str, Any] = {
    "artifacts": None,
    "caches": [],
    "reports": None,
    "outputs": [],
    "environment": None,
    "secrets": [],
}
STEPS = "steps:\n  - name: build\n    run: make\n    timeout: 5m\n"


@pytest.fixture
def repository_job(make_job: MakeJob, operator_actor: Actor) -> str:
    """A job whose definition is in the repository."""
    repository = "https://git.example.com/own.git"
    pipeline_save(actor=operator_actor, name="own", repository=repository, default_ref="main", definition=None)
    return make_job(pipeline="own")


def waiting(*labels: str) -> list[str]:
    """The ids of the jobs that wait for an agent with exactly these labels."""
    return [entry.position.rsplit("#", 1)[1] for entry in queue_head(set_id(labels))]


def acts(job_id: str) -> Counter[str]:
    """How often what was done to the job today."""
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    return Counter(str(record.action) for record in records if record.target == f"job:{job_id}")


def job_state(job_id: str) -> tuple[str, int, str | None]:
    job = job_get(job_id)
    return job.status, int(job.attempt), job.agent_id


def replayed(agent: AgentClient, request: Signed, times: int) -> Counter[int]:
    """The statuses of the answers to the same request, sent `times` times by eight threads."""
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda _: agent.send(request).status_code, range(times)))


# --- heartbeats -----------------------------------------------------------------------------------------------------


def test_an_idle_heartbeat_is_answered_with_when_to_come_again(agent: AgentClient) -> None:
    answer = agent.heartbeat()
    interval = answer.pop("next_check_interval")
    assert answer == {"status": "healthy", "config_version": 1, "jobs": [], "wishes": []}
    assert 1 <= interval <= 18


def test_a_heartbeat_brings_a_job(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assert agent.heartbeat()["jobs"] == [{"job_id": job_id, "attempt": 1}]
    assert job_state(job_id) == ("assigned", 1, agent.agent_id)


def test_a_heartbeat_brings_no_more_jobs_than_slots_are_free(agent: AgentClient, make_job: MakeJob) -> None:
    jobs = [make_job() for _ in range(4)]
    assert agent.heartbeat(free_slots=0)["jobs"] == []
    assert [job["job_id"] for job in agent.heartbeat(free_slots=2)["jobs"]] == jobs[:2]


def test_an_assignment_is_offered_again_until_it_is_acknowledged(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    first = agent.heartbeat()["jobs"]
    assert agent.heartbeat()["jobs"] == first
    assert agent.heartbeat(free_slots=0)["jobs"] == first
    agent.start(first[0])
    assert agent.heartbeat(free_slots=0, running=first)["jobs"] == []


def test_an_offered_job_takes_a_slot(agent: AgentClient, make_job: MakeJob) -> None:
    jobs = [make_job() for _ in range(3)]
    assert [job["job_id"] for job in agent.heartbeat()["jobs"]] == jobs[:1]
    assert [job["job_id"] for job in agent.heartbeat()["jobs"]] == jobs[:1]
    assert sorted(job["job_id"] for job in agent.heartbeat(free_slots=2)["jobs"]) == jobs[:2]


def test_an_assignment_that_is_not_acknowledged_for_a_minute_is_released(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    with clock.shifted(timedelta(seconds=59)):
        assert agent.heartbeat(free_slots=0)["jobs"] == [assignment]
    with clock.shifted(timedelta(seconds=61)):
        assert agent.heartbeat(free_slots=0)["jobs"] == []
        assert job_state(job_id) == ("queued", 1, None)
        assert enrolled(server, name="build-2").heartbeat()["jobs"] == [{"job_id": job_id, "attempt": 2}]
        problem(agent.start(assignment), 409, "stale_attempt")
    assert int(job_get(job_id).lost_attempts) == 0


def test_labels_decide_who_gets_what(server: str, agent: AgentClient, make_job: MakeJob) -> None:
    plain, special = make_job(priority=1), make_job(labels=["gpu", "linux"])
    assert [job["job_id"] for job in agent.heartbeat(free_slots=4)["jobs"]] == [plain]
    fitting = enrolled(server, labels=["linux", "gpu", "arm"], name="build-2")
    assert [job["job_id"] for job in fitting.heartbeat(free_slots=4)["jobs"]] == [special]


def test_an_agent_that_drains_gets_nothing_new_and_may_end_what_it_runs(
    admin: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    waiting_job = make_job()
    agent_drain(agent_id=agent.agent_id, actor=ADMIN)
    answer = agent.heartbeat(running=[assignment], free_slots=4)
    assert (answer["status"], answer["jobs"], answer["wishes"]) == ("draining", [], [])
    answered = agent.finish(assignment)
    assert (answered.status_code, answered.json()) == (200, {"next": None})
    assert job_state(waiting_job)[0] == "queued"


def test_a_command_is_sent_until_the_job_has_ended(operator: Client, agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    operator.post(f"/jobs/{job_id}/cancel")
    for _ in range(2):
        assert agent.heartbeat(free_slots=0, running=[assignment])["wishes"] == [{**assignment, "wish": "cancel"}]
    agent.finish(assignment, exit_code=143)
    assert agent.heartbeat()["wishes"] == []


def test_an_attempt_that_was_given_to_another_is_to_be_abandoned(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    with polled(50):
        assert leases_expire() == 1
        other = enrolled(server, name="build-2")
        assert other.take() == {"job_id": job_id, "attempt": 2}
        assert agent.heartbeat(running=[assignment])["wishes"] == [{**assignment, "wish": "abandon"}]
        assert other.heartbeat(running=[{"job_id": job_id, "attempt": 2}])["wishes"] == []
    assert job_state(job_id) == ("running", 2, other.agent_id)


def test_what_never_was_is_to_be_abandoned(agent: AgentClient) -> None:
    invented = {"job_id": new_id(), "attempt": 7}
    assert agent.heartbeat(running=[invented])["wishes"] == [{**invented, "wish": "abandon"}]


def test_a_started_job_that_is_not_named_any_more_runs_again(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    agent.take()
    agent.heartbeat(free_slots=0)
    assert job_state(job_id)[0] == "running"
    with clock.shifted(timedelta(seconds=46)):
        agent.heartbeat(free_slots=0)
    assert job_state(job_id) == ("queued", 1, None)
    assert int(job_get(job_id).lost_attempts) == 1


def test_a_heartbeat_in_time_keeps_the_lease(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    with clock.shifted(timedelta(seconds=40)):
        agent.heartbeat(running=[assignment], free_slots=0)
    with clock.shifted(timedelta(seconds=80)):
        agents_mark_silent()
        assert leases_expire() == 0
    assert job_state(job_id)[0] == "running"


def test_after_the_last_attempt_is_lost_the_job_has_failed_and_says_why(
    server: str, operator: Client, make_job: MakeJob
) -> None:
    job_id = make_job()
    for lost in range(3):
        with clock.shifted(timedelta(minutes=lost)):
            unlucky = enrolled(server, name=f"build-{lost}")
            assert unlucky.take() == {"job_id": job_id, "attempt": lost + 1}
        with clock.shifted(timedelta(minutes=lost)), polled(50):
            leases_expire()
    job = operator.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["attempt"]) == ("failed", 3)
    assert "Attempt 3 was lost" in job["error_message"]
    assert waiting() == []


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    agent.take()
    operator.post(f"/jobs/{job_id}/cancel")
    with polled(50):
        leases_expire()
    assert job_state(job_id)[0] == "cancelled"
    assert waiting() == []


def test_heartbeats_go_forward_in_time_only(agent: AgentClient, make_job: MakeJob) -> None:
    old = agent.heartbeat_request()
    agent.heartbeat()
    make_job()
    problem(agent.send(old), 409, "heartbeat_out_of_order")


WRONG_HEARTBEATS: list[tuple[dict[str, Any], str]] = [
    ({"agent_id": "other"}, "agent_id"),
    ({"cpu_percent": "12"}, "cpu_percent"),
    ({"cpu_percent": 101}, "cpu_percent"),
    ({"memory_percent": None}, "memory_percent"),
    ({"free_slots": -1}, "free_slots"),
    ({"free_slots": 10**30}, "free_slots"),
    ({"running": {}}, "running"),
    ({"running": [1]}, "running[0]"),
    ({"running": [{"job_id": "x", "attempt": 1}]}, "running[0].job_id"),
    ({"running": [{"job_id": "0" * 26, "attempt": "1"}]}, "running[0].attempt"),
]


def test_a_heartbeat_that_is_none_is_refused(agent: AgentClient) -> None:
    for members, field in WRONG_HEARTBEATS:
        answer = agent.send(agent.heartbeat_request(**members))
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == field, members


# --- start ----------------------------------------------------------------------------------------------------------


def test_starting_gives_all_that_is_needed_to_run_the_job(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job(git_ref="v1.0", env={"A": "1"})
    (assignment,) = agent.heartbeat()["jobs"]
    answer = agent.start(assignment)
    assert answer.status_code == 200
    assert answer.json() == {
        "job_id": job_id,
        "attempt": 1,
        "run_id": job_get(job_id).run_id,
        "name": "#first",
        "group": None,
        "pipeline": "self",
        "repository": "https://git.example.com/app.git",
        "git_ref": "v1.0",
        "ref": "v1.0",
        "env": {"A": "1"},
        "timeout": 3600,
        "definition": {
            "steps": [
                {"name": "lint", "run": "make lint", "env": {}, "timeout": None},
                {"name": "test", "run": "make test", "env": {}, "timeout": None},
            ],
            "env": {},
            "labels": [],
            "timeout": None,
            "retries": 2,
            "container": None,
            "submodules": False,
            **NOTHING_EXCHANGED,
        },
        "definition_path": ".hybrid-ci.yml",
        "log_limit": 100_000_000,
        "deployment_targets": [],
        "sealed_secrets": None,
    }


def test_starting_again_changes_nothing(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    started_at = job_get(job_id).started_at
    again = agent.start(assignment)
    assert (again.status_code, again.json()["job_id"]) == (200, job_id)
    assert job_get(job_id).started_at == started_at
    assert acts(job_id)["job.started"] == 1


def test_only_the_agent_that_was_offered_a_job_may_speak_of_it(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    other = enrolled(server, name="build-2")
    for answer in (
        other.start(assignment),
        other.define(assignment, STEPS),
        other.log(assignment, 0, b"x"),
        other.finish(assignment),
    ):
        problem(answer, 409, "stale_attempt")
    assert LogChunk.count(f"{assignment['job_id']}#1") == 0


def test_another_attempts_number_is_stale(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    agent.take()
    for attempt in (2, 999_999):
        wrong = {"job_id": job_id, "attempt": attempt}
        for answer in (
            agent.start(wrong),
            agent.define(wrong, STEPS),
            agent.log(wrong, 0, b"x"),
            agent.finish(wrong),
        ):
            problem(answer, 409, "stale_attempt")
    assert job_state(job_id) == ("running", 1, agent.agent_id)


def test_of_an_unknown_job_nothing_can_be_said(agent: AgentClient) -> None:
    unknown = {"job_id": new_id(), "attempt": 1}
    for answer in (
        agent.start(unknown),
        agent.define(unknown, STEPS),
        agent.log(unknown, 0, b"x"),
        agent.finish(unknown),
    ):
        problem(answer, 404, "job_not_found")


def test_a_lost_attempt_may_write_nothing_once_the_next_one_has_begun(
    server: str, operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    agent.log(assignment, 0, b"in time\n")
    with polled(50):
        leases_expire()
        cache.clear()
        for answer in (agent.start(assignment), agent.define(assignment, STEPS)):
            problem(answer, 409, "stale_attempt")
        other = enrolled(server, name="build-2")
        other.heartbeat()
        for answer in (agent.log(assignment, 1, b"too late\n"), agent.finish(assignment)):
            problem(answer, 409, "stale_attempt")
    assert job_state(job_id) == ("assigned", 2, other.agent_id)
    assert operator.get(f"/jobs/{job_id}/log").content == b"in time\n"


@pytest.mark.parametrize("act", ["start", "definition", "finish"])
def test_an_attempt_that_is_no_number_is_refused(agent: AgentClient, act: str) -> None:
    for attempt in (None, "1", 1.0, 1.5, True, 0, -1, 10**30, [1]):
        body = {**finish_body({"attempt": attempt}), "text": STEPS}
        answer = agent.post(f"/jobs/{new_id()}/{act}", body)
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "attempt", attempt


@pytest.mark.parametrize("act", ["start", "definition", "finish"])
def test_a_body_that_is_no_json_object_is_refused(agent: AgentClient, act: str) -> None:
    for body in (b"[]", b"{", b"1", b'{"attempt": 1, "text": "\\ud800"}', b'{"attempt": NaN}', b"\xff", b"[" * 1000):
        problem(agent.post(f"/jobs/{new_id()}/{act}", body), 400, "malformed_json")


def test_an_oversize_body_is_refused(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    assignment = agent.take()
    problem(agent.define(assignment, "x" * 1_100_000), 413, "too_large")
    problem(agent.finish(assignment, error_message="x" * 1_100_000), 413, "too_large")


def test_only_posts_are_taken(agent: AgentClient) -> None:
    path = f"/agents/{agent.agent_id}/heartbeat"
    problem(agent.send(agent.signed(path, b"", method="GET")), 405, "method_not_allowed")


# --- definition -----------------------------------------------------------------------------------------------------


def test_a_repositorys_definition_is_read_and_becomes_the_jobs_steps(
    operator: Client, agent: AgentClient, repository_job: str
) -> None:
    (assignment,) = agent.heartbeat()["jobs"]
    started = agent.start(assignment).json()
    assert (started["definition"], started["definition_path"]) == (None, ".hybrid-ci.yml")
    answer = agent.define(assignment, "timeout: 1h\nenv: {CI: 'true'}\n" + STEPS, commit="d" * 40)
    assert answer.status_code == 200
    assert answer.json() == {
        "steps": [{"name": "build", "run": "make", "env": {}, "timeout": 300}],
        "env": {"CI": "true"},
        "timeout": 3600,
        "container": None,
        "submodules": False,
        **NOTHING_EXCHANGED,
        "sealed_secrets": None,
    }
    job = operator.get(f"/jobs/{repository_job}").json()
    assert ([step["name"] for step in job["steps"]], job["commit"]) == (["build"], "d" * 40)


def test_a_wrong_definition_is_refused_with_line_and_field(agent: AgentClient, repository_job: str) -> None:
    assignment = agent.take()
    answer = agent.define(assignment, "steps:\n  - name: a\n    run: make\n    timeout: soon\nlabel: x\n")
    errors = problem(answer, 422, "definition_invalid")["errors"]
    assert [(error["field"], error["line"]) for error in errors] == [("steps[0].timeout", 4), ("label", 5)]
    assert all(error["message"] for error in errors)
    assert job_state(repository_job)[0] == "running"
    assert agent.finish(assignment, exit_code=None, error_message=errors[0]["message"]).status_code == 200
    assert job_state(repository_job)[0] == "failed"


def test_a_definition_that_is_too_long_is_a_mistake_in_it(agent: AgentClient, repository_job: str) -> None:
    assignment = agent.take()
    errors = problem(agent.define(assignment, STEPS + "#" * 530_000), 422, "definition_invalid")["errors"]
    assert errors[0]["line"] == 1


def test_a_definition_that_is_no_text_is_refused(agent: AgentClient, repository_job: str) -> None:
    assignment = agent.take()
    texts: tuple[Any, ...] = (1, ["steps"], {})
    for text in texts:
        assert problem(agent.define(assignment, text), 400, "invalid_input")["errors"][0]["field"] == "text"


def test_a_commit_that_is_none_is_refused(agent: AgentClient, repository_job: str) -> None:
    assignment = agent.take()
    commits: tuple[Any, ...] = (1, "x" * 65, ["a"])
    for commit in commits:
        answer = agent.define(assignment, STEPS, commit=commit)
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "commit"


def test_a_job_that_needs_another_machine_moves_there(server: str, agent: AgentClient, repository_job: str) -> None:
    assignment = agent.take()
    text = "labels: [gpu]\n" + STEPS
    problem(agent.define(assignment, text), 409, "job_moved")
    assert job_state(repository_job) == ("queued", 1, None)
    assert (waiting(), waiting("gpu")) == ([], [repository_job])
    assert agent.heartbeat()["jobs"] == []
    other = enrolled(server, labels=["gpu"], name="build-2")
    moved = other.take()
    assert moved == {"job_id": repository_job, "attempt": 2}
    assert other.define(moved, text).status_code == 200
    problem(agent.define(assignment, text), 409, "stale_attempt")
    assert int(job_get(repository_job).lost_attempts) == 0


def test_a_job_that_would_move_but_is_to_be_cancelled_is_cancelled(
    operator: Client, agent: AgentClient, repository_job: str
) -> None:
    assignment = agent.take()
    operator.post(f"/jobs/{repository_job}/cancel")
    problem(agent.define(assignment, "labels: [gpu]\n" + STEPS), 409, "job_moved")
    assert job_state(repository_job)[0] == "cancelled"
    assert waiting("gpu") == []


def test_a_definition_before_the_start_is_refused(agent: AgentClient, repository_job: str) -> None:
    (assignment,) = agent.heartbeat()["jobs"]
    problem(agent.define(assignment, STEPS), 409, "stale_attempt")


# --- log ------------------------------------------------------------------------------------------------------------


def test_the_answer_to_a_log_chunk_carries_the_cancel_request(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    assert agent.log(assignment, 0, b"a").json() == {"wish": None}
    operator.post(f"/jobs/{job_id}/cancel")
    # A process believes for a second that nothing has changed.
    cache.clear()
    assert agent.log(assignment, 1, b"b").json() == {"wish": "cancel"}


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)), b"\xff" * 100_000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_chunk_arrives_byte_for_byte(
    operator: Client, agent: AgentClient, make_job: MakeJob, data: bytes, packed: bool
) -> None:
    job_id = make_job()
    assert agent.log(agent.take(), 0, data, packed=packed).status_code == 200
    assert operator.get(f"/jobs/{job_id}/log").content == data


def test_a_chunk_that_is_too_large_is_refused_also_when_it_is_packed_small(
    agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assignment = agent.take()
    for size in (100_001, 1_000_000):
        problem(agent.log(assignment, 0, b"x" * size), 413, "log_chunk_too_large")
        problem(agent.log(assignment, 0, b"x" * size, packed=True), 413, "log_chunk_too_large")
    # A gigabyte in a megabyte.
    bomb = gzip.compress(b"\0" * 1_000_000) * 1000
    problem(agent.send(agent.log_request(assignment, 0, bomb, encoding="gzip")), 413, "log_chunk_too_large")
    problem(agent.log(assignment, 0, b"x" * 1_100_000), 413, "too_large")
    assert LogChunk.count(f"{assignment['job_id']}#1") == 0


def test_a_packed_chunk_that_is_broken_is_refused(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    assignment = agent.take()
    good = gzip.compress(b"what the job printed" * 100)
    for body in (b"", b"nonsense", good[:-5], good[:20], good[:10] + b"\xff" * 30, good + b"behind"):
        answer = agent.send(agent.log_request(assignment, 0, body, encoding="gzip"))
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "body", body
    assert LogChunk.count(f"{assignment['job_id']}#1") == 0


def test_another_encoding_is_refused(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    assignment = agent.take()
    for encoding in ("br", "deflate", "gzip, gzip", "x" * 500):
        answer = agent.send(agent.log_request(assignment, 0, b"x", encoding=encoding))
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "Content-Encoding"


def test_a_place_in_the_log_that_is_none_is_not_found(agent: AgentClient) -> None:
    for place in ("1/-1", "1/x", "x/0", "1/1234567890", "0x1/0", "1/", "1/0/0"):
        path = f"/agents/{agent.agent_id}/jobs/{new_id()}/log/{place}"
        problem(agent.send(agent.signed(path, b"x")), 404, "not_found")


# --- finish ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"exit_code": 0}, "completed"),
        ({"exit_code": 0, "error_message": "the repository is gone"}, "failed"),
        ({"exit_code": 1}, "failed"),
        ({"exit_code": -9}, "failed"),
        ({"exit_code": None, "error_message": "git failed"}, "failed"),
        ({"exit_code": None}, "failed"),
        ({"exit_code": 143, "steps": [{"name": "lint", "state": "timed_out"}]}, "timed_out"),
    ],
)
def test_what_the_agent_reports_decides_how_the_job_ended(
    agent: AgentClient, make_job: MakeJob, members: dict[str, Any], status: str
) -> None:
    job_id = make_job()
    answer = agent.finish(agent.take(), **members)
    assert (answer.status_code, answer.json()) == (200, {"next": None})
    assert job_state(job_id)[0] == status


def test_finishing_brings_the_next_job(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    assignment = agent.take()
    following = make_job()
    answer = agent.finish(assignment).json()
    assert answer == {"next": {"job_id": following, "attempt": 1}}
    assert agent.start(answer["next"]).status_code == 200


def test_finishing_again_brings_nothing_and_changes_nothing(agent: AgentClient, make_job: MakeJob) -> None:
    job_id, following = make_job(priority=90), make_job()
    assignment = agent.take()
    assert agent.finish(assignment, exit_code=1).json()["next"]["job_id"] == following
    third = make_job()
    answer = agent.finish(assignment, exit_code=0)
    assert (answer.status_code, answer.json()) == (200, {"next": None})
    assert job_state(job_id)[0] == "failed"
    assert job_state(third)[0] == "queued"
    assert acts(job_id)["job.finished"] == 1


def test_an_agent_that_wants_no_next_job_gets_none(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    assignment = agent.take()
    following = make_job()
    assert agent.finish(assignment, wants_next=False).json() == {"next": None}
    assert job_state(following)[0] == "queued"


def test_a_job_that_was_not_started_cannot_be_finished(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    problem(agent.finish(assignment), 409, "stale_attempt")
    assert job_state(job_id)[0] == "assigned"


def test_a_long_error_message_is_cut(operator: Client, agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    agent.finish(agent.take(), exit_code=1, error_message="é" * 100_000)
    assert operator.get(f"/jobs/{job_id}").json()["error_message"] == "é" * 1000


NO_MOMENTS: list[Any] = [
    5,
    "",
    "yesterday",
    "2026-11-21",
    "2026-11-21T09:00:00",
    "2026-13-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    {},
]

WRONG_RESULTS: list[tuple[dict[str, Any], str]] = [
    ({"exit_code": "0"}, "exit_code"),
    ({"exit_code": 0.5}, "exit_code"),
    ({"exit_code": True}, "exit_code"),
    ({"exit_code": 10**30}, "exit_code"),
    ({"error_message": 5}, "error_message"),
    ({"error_message": ["x"]}, "error_message"),
    ({"log_chunks": -1}, "log_chunks"),
    ({"log_chunks": None}, "log_chunks"),
    ({"log_chunks": 10**30}, "log_chunks"),
    ({"commit": 1}, "commit"),
    ({"commit": "c" * 65}, "commit"),
    ({"wants_next": "no"}, "wants_next"),
    ({"wants_next": None}, "wants_next"),
    ({"steps": {}}, "steps"),
    ({"steps": "lint"}, "steps"),
    ({"steps": [{"name": "x", "state": "completed"}] * 101}, "steps"),
    ({"steps": ["lint"]}, "steps[0]"),
    ({"steps": [{}]}, "steps[0].name"),
    ({"steps": [{"name": "", "state": "completed"}]}, "steps[0].name"),
    ({"steps": [{"name": "x" * 101, "state": "completed"}]}, "steps[0].name"),
    ({"steps": [{"name": "lint", "state": "exploded"}]}, "steps[0].state"),
    ({"steps": [{"name": "lint", "state": ["completed"]}]}, "steps[0].state"),
    ({"steps": [{"name": "lint", "state": "completed", "exit_code": "0"}]}, "steps[0].exit_code"),
]


def test_a_result_of_a_wrong_kind_is_refused_and_ends_nothing(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    for members, field in WRONG_RESULTS:
        body = problem(agent.finish(assignment, **members), 400, "invalid_input")
        assert body["errors"][0]["field"] == field, members
    for moment in NO_MOMENTS:
        step = {"name": "lint", "state": "completed", "started_at": moment}
        body = problem(agent.finish(assignment, steps=[step]), 400, "invalid_input")
        assert body["errors"][0]["field"] == "steps[0].started_at", moment
    assert job_state(job_id)[0] == "running"


# --- replays --------------------------------------------------------------------------------------------------------

REPLAYS = pytest.mark.parametrize(
    "times", [pytest.param(64, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.nightly)]
)


@REPLAYS
def test_a_heartbeat_replayed_many_times_takes_one_job(agent: AgentClient, make_job: MakeJob, times: int) -> None:
    jobs = [make_job() for _ in range(3)]
    request = agent.heartbeat_request()
    assert replayed(agent, request, times) == {200: times}
    assert [job_state(job_id)[0] for job_id in jobs] == ["assigned", "queued", "queued"]
    assert acts(jobs[0])["job.claimed"] == 1


@REPLAYS
def test_a_start_replayed_many_times_starts_once(agent: AgentClient, make_job: MakeJob, times: int) -> None:
    job_id = make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    request = agent.json_request(f"/jobs/{job_id}/start", {"attempt": assignment["attempt"]})
    assert replayed(agent, request, times) == {200: times}
    assert job_state(job_id) == ("running", 1, agent.agent_id)
    assert acts(job_id)["job.started"] == 1


@REPLAYS
def test_a_definition_replayed_many_times_is_taken_once(agent: AgentClient, repository_job: str, times: int) -> None:
    assignment = agent.take()
    body = {"attempt": assignment["attempt"], "commit": "c" * 40, "text": STEPS}
    request = agent.json_request(f"/jobs/{repository_job}/definition", body)
    assert replayed(agent, request, times) == {200: times}
    assert acts(repository_job)["job.defined"] == 1


@REPLAYS
def test_a_log_chunk_replayed_many_times_is_stored_once(
    operator: Client, agent: AgentClient, make_job: MakeJob, times: int
) -> None:
    job_id = make_job()
    request = agent.log_request(agent.take(), 0, b"once\n")
    assert replayed(agent, request, times) == {200: times}
    assert operator.get(f"/jobs/{job_id}/log").content == b"once\n"


@REPLAYS
def test_a_finish_replayed_many_times_ends_one_job_and_brings_one(
    operator: Client, agent: AgentClient, make_job: MakeJob, times: int
) -> None:
    job_id, *others = [make_job(priority=90), *(make_job() for _ in range(3))]
    assignment = agent.take()
    request = agent.json_request(f"/jobs/{job_id}/finish", finish_body(assignment))
    brought: list[Any] = []
    lock = threading.Lock()

    def send(_: int) -> int:
        answer = agent.send(request)
        with lock:
            brought.extend([answer.json()["next"]] if answer.json()["next"] else [])
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(send, range(times))) == {200: times}
    assert brought == [{"job_id": others[0], "attempt": 1}]
    assert [job_state(other)[0] for other in others] == ["assigned", "queued", "queued"]
    assert acts(job_id)["job.finished"] == 1
    assert operator.get("/jobs?status=completed").json()["total"] == 1
