"""``Idempotency-Key`` of ``POST /jobs`` and of a retry: one request, one job, however often it is sent."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests

from apps.jobs.models import IdempotencyKey
from apps.jobs.selectors import job_list
from controlplane.lib import clock
from tests.clients import Client, problem
from tests.signing import AgentClient

pytestmark = pytest.mark.usefixtures("pipeline")


def create(client: Client, key: str, /, **members: Any) -> requests.Response:
    return client.post("/jobs", json=members, headers={"Idempotency-Key": key})


def job_of(answer: requests.Response) -> str:
    assert (answer.status_code, answer.json()["status"]) == (201, "queued"), answer.text
    return str(answer.json()["job_id"])


def test_the_same_request_gives_the_same_job_and_answer(operator: Client) -> None:
    first, again = (create(operator, "k1", git_ref="main", env={"A": "1"}) for _ in range(2))
    assert job_of(first) == job_of(again)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert job_list().total == 1


def test_the_answer_stays_the_same_when_the_job_has_moved_on(operator: Client, agent: AgentClient) -> None:
    first = create(operator, "k1")
    agent.finish(agent.take())
    assert create(operator, "k1").json() == first.json()
    assert agent.heartbeat()["jobs"] == []


def test_without_a_key_or_with_another_there_is_another_job(operator: Client) -> None:
    jobs = {job_of(operator.post("/jobs")), job_of(operator.post("/jobs"))}
    jobs |= {job_of(create(operator, "k1")), job_of(create(operator, "k2"))}
    assert len(jobs) == 4


def test_query_and_json_may_say_the_same(operator: Client) -> None:
    by_json = create(operator, "k1", git_ref="v1", priority=60)
    by_query = operator.post("/jobs?priority=60&git_ref=v1", headers={"Idempotency-Key": "k1"})
    assert job_of(by_query) == job_of(by_json)


def test_another_payload_under_the_same_key_is_refused(operator: Client) -> None:
    job_id = job_of(create(operator, "k1", git_ref="v1"))
    others: list[dict[str, Any]] = [
        {"git_ref": "v2"},
        {"git_ref": "v1", "priority": 51},
        {"git_ref": "v1", "env": {"A": "1"}},
        {"git_ref": "v1", "labels": ["gpu"]},
        {"git_ref": "v1", "pipeline": "self"},
        {},
    ]
    for other in others:
        problem(create(operator, "k1", **other), 422, "idempotency_key_reused")
    assert job_of(create(operator, "k1", git_ref="v1")) == job_id
    assert job_list().total == 1


def test_after_24_hours_the_key_may_be_used_anew(operator: Client) -> None:
    first = job_of(create(operator, "k1", git_ref="v1"))
    with clock.shifted(timedelta(hours=23, minutes=59)):
        assert job_of(create(operator, "k1", git_ref="v1")) == first
    with clock.shifted(timedelta(hours=24, seconds=2)):
        second = job_of(create(operator, "k1", git_ref="v2"))
        assert second != first
        assert job_of(create(operator, "k1", git_ref="v2")) == second


def test_the_keys_of_different_people_do_not_meet(operator: Client, admin: Client) -> None:
    assert job_of(create(operator, "k1", git_ref="v1")) != job_of(create(admin, "k1", git_ref="v2"))


def test_a_refused_request_does_not_use_the_key_up(operator: Client, viewer: Client) -> None:
    problem(create(operator, "k1", git_ref="a b"), 400, "invalid_input")
    problem(create(operator, "k1", pipeline="nowhere"), 404, "pipeline_not_found")
    assert job_of(create(operator, "k1", git_ref="v1"))
    problem(create(viewer, "k1"), 403, "forbidden")


def test_eight_at_once_make_one_job(operator: Client) -> None:
    token = operator.token
    for key in ("k1", "k2", "k3"):
        clients = [Client(operator.server, token) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda client, key=key: create(client, key, git_ref=key), clients))
        # A caller that comes while another request uses the key may get a conflict, and then tries again.
        for answer in answers:
            if answer.status_code != 201:
                problem(answer, 409, "idempotency_key_in_use")
        assert len({job_of(answer) for answer in answers if answer.status_code == 201}) == 1
    assert job_list().total == 3


def test_a_key_that_is_none_is_refused(operator: Client) -> None:
    for key in ("", "a b", "a\tb", "x" * 256, "käse", "\x7f"):
        answer = operator.post("/jobs", headers={"Idempotency-Key": key.encode("latin-1")})
        assert problem(answer, 400, "invalid_input")["errors"][0]["field"] == "Idempotency-Key", key
    assert job_list().total == 0


def test_the_longest_key_is_taken(operator: Client) -> None:
    assert job_of(create(operator, "~" * 255)) == job_of(create(operator, "~" * 255))


def test_the_table_has_no_key_as_it_was_sent(operator: Client) -> None:
    create(operator, "a-secret-of-the-client", env={"A": "b"})
    (record,) = IdempotencyKey.scan()
    assert "a-secret-of-the-client" not in str(record.to_simple_dict())


def test_a_retry_is_made_once(operator: Client, make_job: Callable[..., str], agent: AgentClient) -> None:
    job_id = make_job()
    agent.finish(agent.take(), exit_code=1)
    retries = [operator.post(f"/jobs/{job_id}/retry", headers={"Idempotency-Key": "k1"}) for _ in range(3)]
    assert len({job_of(answer) for answer in retries}) == 1
    problem(create(operator, "k1"), 422, "idempotency_key_reused")


def test_the_answer_stays_the_same_when_the_pipeline_is_gone(operator: Client, admin: Client) -> None:
    first = create(operator, "k1")
    assert admin.delete("/pipelines/self").status_code == 204
    assert create(operator, "k1").json() == first.json()
    problem(create(operator, "k1", git_ref="v1"), 422, "idempotency_key_reused")
    problem(create(operator, "k2"), 404, "pipeline_not_found")


def test_an_expired_key_of_a_pipeline_that_is_gone_brings_no_old_job_back(operator: Client, admin: Client) -> None:
    first = job_of(create(operator, "k1"))
    assert admin.delete("/pipelines/self").status_code == 204
    with clock.shifted(timedelta(hours=23, minutes=59)):
        assert job_of(create(operator, "k1")) == first
    with clock.shifted(timedelta(hours=24, seconds=2)):
        problem(create(operator, "k1"), 404, "pipeline_not_found")
