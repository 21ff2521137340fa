"""One bad machine fails neither a job nor the queue."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.core.cache import cache

from apps.agents.models import Heartbeat
from apps.agents.services import agent_configure, agent_resume
from apps.audit.selectors import audit_list
from apps.jobs.models import Job
from apps.jobs.selectors import job_get
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.conftest import ADMIN
from tests.properties.consistency import Everything
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]

FULL = "No space is left on /var/lib/agent."
BEGUN = [{"name": "lint", "state": "failed"}, {"name": "test", "state": "skipped"}]


def later(seconds: float) -> AbstractContextManager[None]:
    return clock.shifted(timedelta(seconds=seconds))


def job_state(job_id: str) -> tuple[str, int, int]:
    job = job_get(job_id)
    return job.status, int(job.attempt), int(job.lost_attempts)


def fault(agent: AgentClient, assignment: dict[str, object], **members: object) -> object:
    """The agent reports that its own machine ended the attempt; returns the next assignment."""
    answer = agent.finish(assignment, **{"exit_code": None, "agent_fault": FULL, **members})
    assert answer.status_code == 200, answer.text
    return answer.json()["next"]


def shown(operator: Client, agent: AgentClient) -> tuple[str, str | None]:
    found = operator.get(f"/agents/{agent.agent_id}").json()
    return found["status"], found["status_reason"]


# --- the outcome agent_fault ------------------------------------------------------------------------------------------


def test_a_failure_of_the_machine_is_tried_elsewhere_and_uses_up_no_retry(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    fault(agent, agent.take())
    assert job_state(job_id) == ("queued", 1, 0)
    assert agent.heartbeat()["jobs"] == []
    other = enrolled(server, name="build-2")
    assert other.heartbeat()["jobs"] == [{"job_id": job_id, "attempt": 2}]
    assert Everything.read().inconsistencies() == []


def test_a_failure_of_the_machine_after_a_step_has_begun_counts_as_a_lost_attempt(
    agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    fault(agent, agent.take(), steps=BEGUN)
    assert job_state(job_id) == ("queued", 1, 1)


def test_a_machine_that_is_the_only_one_gets_the_job_again_after_two_minutes(
    agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    fault(agent, agent.take())
    with later(119):
        assert agent.heartbeat()["jobs"] == []
    with later(121):
        assert agent.heartbeat()["jobs"] == [{"job_id": job_id, "attempt": 2}]


def test_a_job_that_fails_on_five_machines_fails_and_names_them_with_their_reasons(
    server: str, operator: Client, make_job: MakeJob
) -> None:
    job_id = make_job()
    for number in range(1, 6):
        machine = enrolled(server, name=f"build-{number}")
        fault(machine, machine.take(), agent_fault=f"Disk {number} is broken.")
    job = operator.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["attempt"]) == ("failed", 5)
    for number in range(1, 6):
        assert f"build-{number}: Disk {number} is broken." in job["error_message"]
    assert Everything.read().inconsistencies() == []


def test_a_job_that_breaks_machines_after_its_last_retry_fails_and_says_why(
    server: str, operator: Client, make_job: MakeJob
) -> None:
    job_id = make_job()
    for number in range(1, 4):
        machine = enrolled(server, name=f"build-{number}")
        fault(machine, machine.take(), steps=BEGUN)
    job = operator.get(f"/jobs/{job_id}").json()
    assert (job["status"], job["attempt"]) == ("failed", 3)
    assert job["error_message"] == f"Attempt 3 was lost: the machine of build-3 failed: {FULL}"


def test_a_job_with_a_cancel_request_is_cancelled_when_the_machine_fails(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    operator.post(f"/jobs/{job_id}/cancel")
    fault(agent, assignment)
    assert job_get(job_id).status == "cancelled"


def test_a_failure_of_the_machine_that_is_reported_again_counts_once(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    assignment = agent.take()
    for _ in range(3):
        fault(agent, assignment)
    assert job_state(job_id) == ("queued", 1, 0)
    assert len(job_get(job_id).faults) == 1
    other = enrolled(server, name="build-2")
    other.take()
    problem(agent.finish(assignment, agent_fault=FULL), 409, "stale_attempt")


def test_a_machine_that_fails_before_the_start_may_say_so(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    fault(agent, assignment)
    assert job_state(job_id) == ("queued", 1, 0)


def test_a_long_reason_is_cut(operator: Client, agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    fault(agent, agent.take(), agent_fault="é" * 100_000)
    agent.heartbeat(fault="é" * 100_000)
    assert shown(operator, agent) == ("unhealthy", "é" * 500)


def test_an_agent_with_a_full_work_directory_fails_no_job_of_the_queue(
    server: str, operator: Client, make_job: MakeJob
) -> None:
    bad, good = enrolled(server, name="bad"), enrolled(server, name="good", slots=1)
    jobs = [make_job() for _ in range(12)]
    taken = 0
    for seconds in range(0, 12 * 5, 5):
        with later(seconds):
            cache.clear()
            for assignment in bad.heartbeat(free_slots=4)["jobs"]:
                taken += 1
                bad.start(assignment)
                assert fault(bad, assignment) is None
            for assignment in good.heartbeat(free_slots=1)["jobs"]:
                good.start(assignment)
                while assignment:
                    assignment = good.finish(assignment).json()["next"]
                    if assignment:
                        good.start(assignment)
    assert taken <= 4
    assert {job_get(job_id).status for job_id in jobs} == {"completed"}
    assert shown(operator, bad)[0] == "unhealthy"
    assert Everything.read().inconsistencies() == []


# --- an unhealthy machine ---------------------------------------------------------------------------------------------


def faults_in_a_row(agent: AgentClient, make_job: MakeJob, count: int) -> None:
    for _ in range(count):
        make_job()
        fault(agent, agent.take())


def test_after_three_failures_in_a_row_the_machine_is_unhealthy_says_why_and_gets_no_work(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    faults_in_a_row(agent, make_job, 3)
    make_job()
    answer = agent.heartbeat()
    assert (answer["status"], answer["jobs"]) == ("unhealthy", [])
    assert shown(operator, agent) == (
        "unhealthy",
        f"3 jobs in a row failed because of this machine. The last time: {FULL}",
    )
    listed = operator.get("/agents?status=unhealthy").json()["agents"]
    assert [found["status_reason"] for found in listed] == [shown(operator, agent)[1]]


def test_a_job_that_runs_in_between_makes_the_machine_fit(agent: AgentClient, make_job: MakeJob) -> None:
    faults_in_a_row(agent, make_job, 2)
    make_job()
    agent.finish(agent.take(), exit_code=1)
    faults_in_a_row(agent, make_job, 2)
    assert agent.heartbeat()["status"] == "healthy"


def test_after_a_pause_an_unhealthy_machine_gets_one_job_as_a_probe(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    faults_in_a_row(agent, make_job, 3)
    assert agent.heartbeat(free_slots=4)["jobs"] == []
    with later(310):
        answer = agent.heartbeat(free_slots=4)
        assert (answer["status"], len(answer["jobs"])) == ("healthy", 1)
        assert len(agent.heartbeat(free_slots=3, running=answer["jobs"])["jobs"]) == 0
        agent.start(answer["jobs"][0])
        fault(agent, answer["jobs"][0])
        assert agent.heartbeat(free_slots=4)["status"] == "unhealthy"
    with later(630):
        (probe,) = agent.heartbeat(free_slots=4)["jobs"]
        agent.start(probe)
        following = agent.finish(probe).json()["next"]
        assert len(agent.heartbeat(free_slots=4, running=[following])["jobs"]) >= 1
    assert shown(operator, agent) == ("healthy", None)


def test_an_operator_may_resume_an_unhealthy_machine_at_once(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    faults_in_a_row(agent, make_job, 3)
    agent.heartbeat()
    make_job()
    agent_resume(agent_id=agent.agent_id, actor=ADMIN)
    assert shown(operator, agent) == ("healthy", None)
    assert len(agent.heartbeat()["jobs"]) == 1


def test_a_machine_whose_disk_is_full_gets_no_work_until_it_has_room(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    steps = [(94.9, "healthy"), (95, "unhealthy"), (94, "unhealthy"), (92.9, "healthy"), (94, "healthy")]
    for disk, status in steps:
        answer = agent.heartbeat(disk_percent=disk, free_slots=0)
        assert answer["status"] == status, disk
        assert (shown(operator, agent)[1] is not None) is (status == "unhealthy")
    answer = agent.heartbeat(disk_percent=99, free_slots=1)
    assert answer["jobs"] == []
    assert "disk is full" in str(shown(operator, agent)[1])
    assert len(agent.heartbeat(disk_percent=50)["jobs"]) == 1


def test_a_machine_that_says_it_is_unfit_gets_no_work_and_shows_its_own_sentence(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    make_job()
    assert agent.heartbeat(fault="git is missing. Install it.")["jobs"] == []
    assert shown(operator, agent) == ("unhealthy", "git is missing. Install it.")
    agent.heartbeat(fault="git is too old.")
    assert shown(operator, agent) == ("unhealthy", "git is too old.")
    assert len(agent.heartbeat(fault=None)["jobs"]) == 1
    assert shown(operator, agent) == ("healthy", None)


def test_an_unfit_machine_costs_no_audit_event_with_each_heartbeat(agent: AgentClient) -> None:
    for number in range(5):
        agent.heartbeat(fault=f"git is missing: {number}")
    agent.heartbeat()
    records = audit_list(day=clock.timestamp(clock.now())[:10], limit=100).records
    changed = [record.detail for record in records if record.action == "agent.status_changed"]
    assert changed == [
        {"from": "unhealthy", "to": "healthy"},
        {"from": "healthy", "to": "unhealthy", "reason": "git is missing: 0"},
    ]


def test_an_unhealthy_machine_goes_on_with_what_it_runs(agent: AgentClient, make_job: MakeJob) -> None:
    job_id = make_job()
    assignment = agent.take()
    answer = agent.heartbeat(running=[assignment], disk_percent=99)
    assert (answer["status"], answer["wishes"]) == ("unhealthy", [])
    make_job()
    assert agent.finish(assignment).json() == {"next": None}
    assert job_get(job_id).status == "completed"


# --- offers that the agent does not start -----------------------------------------------------------------------------


def test_an_agent_that_starts_no_offered_job_is_unhealthy_after_three_and_gets_one_later_as_a_probe(
    operator: Client, agent: AgentClient, make_job: MakeJob
) -> None:
    jobs = [make_job() for _ in range(5)]
    now = 0
    for offered in jobs[:3]:
        with later(now):
            assert [job["job_id"] for job in agent.heartbeat()["jobs"]] == [offered]
        now += 61
        with later(now):
            agent.heartbeat(free_slots=0)
    with later(now):
        assert agent.heartbeat()["jobs"] == []
        assert shown(operator, agent) == (
            "unhealthy",
            "The agent took 3 jobs in a row and did not start them.",
        )
    with later(now + 301):
        (probe,) = agent.heartbeat(free_slots=4)["jobs"]
        assert agent.start(probe).status_code == 200
        assert len(agent.heartbeat(free_slots=3, running=[probe])["jobs"]) == 3


def test_a_job_is_not_starved_by_an_agent_that_takes_it_and_never_starts_it(
    server: str, agent: AgentClient, make_job: MakeJob
) -> None:
    job_id = make_job()
    agent.heartbeat()
    other = enrolled(server, name="build-2")
    with later(61):
        assert agent.heartbeat()["jobs"] == []
        assert other.heartbeat()["jobs"] == [{"job_id": job_id, "attempt": 2}]


# --- slots ------------------------------------------------------------------------------------------------------------


def leases_of(agent: AgentClient) -> int:
    heartbeat = Heartbeat.find(agent.agent_id)
    assert heartbeat is not None
    return len(heartbeat.leases)


def test_an_agent_with_one_slot_never_has_more_than_one_job_whatever_it_says_is_free(
    server: str, make_job: MakeJob
) -> None:
    greedy = enrolled(server, slots=1)
    for _ in range(10):
        make_job()
    for _ in range(5):
        greedy.heartbeat(free_slots=30)
        assert leases_of(greedy) == 1
    (assignment,) = greedy.heartbeat(free_slots=30)["jobs"]
    greedy.start(assignment)
    assert greedy.heartbeat(free_slots=30, running=[assignment])["jobs"] == []
    assert greedy.finish(assignment).json()["next"] is not None
    assert leases_of(greedy) == 1


def test_concurrent_heartbeats_and_finishes_give_an_agent_no_more_jobs_than_it_has_slots(
    server: str, make_job: MakeJob
) -> None:
    greedy = enrolled(server, slots=2)
    for _ in range(30):
        make_job()
    running = greedy.heartbeat(free_slots=2)["jobs"]
    for assignment in running:
        greedy.start(assignment)
    requests = [greedy.heartbeat_request(free_slots=64, running=running) for _ in range(6)]
    requests += [greedy.json_request(f"/jobs/{job['job_id']}/finish", finish_of(job)) for job in running]
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(greedy.send, requests)} <= {200, 409}
    assert leases_of(greedy) <= 2
    assert Everything.read().inconsistencies() == []


def finish_of(assignment: dict[str, object]) -> dict[str, object]:
    return {"attempt": assignment["attempt"], "exit_code": 0, "log_chunks": 0}


def test_an_agent_whose_slots_were_reduced_keeps_its_jobs_and_gets_no_more(server: str, make_job: MakeJob) -> None:
    agent = enrolled(server, slots=3)
    for _ in range(5):
        make_job()
    running = agent.heartbeat(free_slots=3)["jobs"]
    assert len(running) == 3
    agent_configure(agent_id=agent.agent_id, labels=[], slots=1, deployment_targets=[], config_version=1, actor=ADMIN)
    for assignment in running:
        agent.start(assignment)
    assert agent.heartbeat(free_slots=3, running=running)["jobs"] == []
    assert agent.finish(running[0]).json()["next"] is None
    assert {str(job.status) for job in Job.scan()} == {"running", "completed", "queued"}


@pytest.mark.parametrize("free", [0, 1, 64])
def test_an_agent_of_an_earlier_version_sends_none_of_the_new_members(
    agent: AgentClient, make_job: MakeJob, free: int
) -> None:
    make_job()
    assert len(agent.heartbeat(free_slots=free)["jobs"]) == min(free, 1)
