"""Secrets in the answers to an agent: for which attempts, under which key, and what a job without them says."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from apps.jobs.models import Job
from apps.jobs.selectors.job_origin import PULL_REQUEST
from apps.jobs.services import Channel, definition_secrets, job_create, job_retry, start_secrets
from apps.jobs.services.secret_deliveries import secrets_named
from apps.pipelines.services import pipeline_save
from apps.secrets.selectors import secret_deliveries
from apps.secrets.services import secret_create
from apps.secrets.states import Scope
from controlplane.lib.errors import ApplicationError, Conflict, Unprocessable
from tests.conftest import ADMIN, OPERATOR
from tests.jobs.conftest import event_of
from tests.jobs.runs import STEPS, Worker, states
from tests.metering import dynamodb_calls
from tests.signing import enrolled

VALUE = "correct horse battery staple"
USES = f"jobs: {{build: {{secrets: [PYPI_TOKEN], {STEPS}}}, plain: {{{STEPS}}}}}"
DEPLOYS = f"jobs: {{build: {{environment: production, secrets: [PYPI_TOKEN], {STEPS}}}}}"


class Receiver:
    """An agent's key for one attempt."""

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()
        self.public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()

    def channel(self, *targets: str) -> Channel:
        return Channel(self.public, targets)

    def open(self, encrypted: str | None, job: Job, agent_id: str) -> dict[str, str]:
        assert encrypted
        info = "\0".join(("hybrid-ci secrets", agent_id, str(job.job_id), str(int(job.attempt)))).encode()
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
        document = json.loads(suite.decrypt(base64.b64decode(encrypted), self.key, info))
        return {one["name"]: one["value"] for one in document["secrets"]}


def secret(**scope: object) -> None:
    secret_create(actor=OPERATOR, name="PYPI_TOKEN", value=VALUE, scope=Scope(**scope))  # type: ignore[arg-type]


def started(worker: Worker, name: str, text: str = USES, **members: Any) -> Job:
    """The named job of a new run, started."""
    worker.run(text, **members)
    return next(job for job in [*worker.take_all()] if job.node == name)


def ask(worker: Worker, job: Job, channel: Channel) -> str | None:
    return start_secrets(agent=worker.agent, job=job, attempt=int(job.attempt), channel=channel)


def test_a_job_that_names_a_secret_gets_it_and_one_that_names_none_costs_nothing(worker: Worker) -> None:
    secret()
    job, receiver = started(worker, "build"), Receiver()
    encrypted = ask(worker, job, receiver.channel())
    assert receiver.open(encrypted, job, worker.agent.id) == {"PYPI_TOKEN": VALUE}
    (seen,) = secret_deliveries("PYPI_TOKEN").deliveries
    assert (seen.job_id, seen.run_id, seen.attempt, seen.version) == (job.job_id, job.run_id, 1, 1)
    plain = started(worker, "plain")
    with dynamodb_calls() as metering:
        assert ask(worker, plain, receiver.channel()) is None
    assert metering.calls == 0


def test_a_repeated_request_gets_them_again_and_another_key_of_the_attempt_does_not(worker: Worker) -> None:
    secret()
    job, receiver = started(worker, "build"), Receiver()
    for _ in range(2):
        assert receiver.open(ask(worker, job, receiver.channel()), job, worker.agent.id)
    with pytest.raises(Conflict) as caught:
        ask(worker, job, Receiver().channel())
    assert caught.value.code == "secrets_delivered"
    assert len(secret_deliveries("PYPI_TOKEN").deliveries) == 2


def test_an_attempt_that_has_ended_gets_none(worker: Worker) -> None:
    secret()
    job = started(worker, "build")
    worker.finish(job)
    with pytest.raises(Conflict) as caught:
        ask(worker, job, Receiver().channel())
    assert caught.value.code == "stale_attempt"
    assert secret_deliveries("PYPI_TOKEN").deliveries == []


@pytest.mark.parametrize(
    ("scope", "key", "message"),
    [
        ({"pipeline": "other"}, True, "No secret PYPI_TOKEN has a scope that includes this job"),
        ({"branches": ("release/*",)}, True, "No secret PYPI_TOKEN has a scope that includes this job"),
        ({}, False, "its agent is too old to receive"),
    ],
)
def test_a_job_that_cannot_get_its_secret_fails_with_the_reason(
    worker: Worker, scope: dict[str, Any], key: bool, message: str
) -> None:
    secret(**scope)
    job = started(worker, "build")
    channel = Receiver().channel() if key else Channel(None, ())
    with pytest.raises(Conflict) as caught:
        ask(worker, job, channel)
    assert caught.value.code == "stale_attempt"
    ended = Job.get(job.job_id)
    assert ended.status == "failed"
    assert message in str(ended.error_message)
    assert states(str(job.run_id))["build"] == "failed"
    refused = event_of(str(job.job_id), "secret.delivery_refused")
    assert message in refused["detail"]["reason"]


def test_a_secret_of_an_environment_needs_the_job_and_an_agent_of_it(worker: Worker) -> None:
    secret(environment="production")
    run_id = worker.run(DEPLOYS)
    waiting = next(job for job in Job.scan() if job.run_id == run_id and job.node == "build")
    # Only an agent with the target can have claimed it.
    assert waiting.labels == ["deploy:production"]
    job = started(worker, "build", USES)
    with pytest.raises(Unprocessable, match="environment production, to which this agent may not deploy"):
        definition_secrets(
            agent=worker.agent,
            job_id=str(job.job_id),
            attempt=1,
            definition={"secrets": ["PYPI_TOKEN"], "environment": "production"},
            channel=Receiver().channel("staging"),
        )
    receiver = Receiver()
    encrypted = definition_secrets(
        agent=worker.agent,
        job_id=str(job.job_id),
        attempt=1,
        definition={"secrets": [{"name": "PYPI_TOKEN", "file": True}], "environment": "production"},
        channel=receiver.channel("production"),
    )
    assert receiver.open(encrypted, job, worker.agent.id) == {"PYPI_TOKEN": VALUE}


@pytest.mark.parametrize("ref", ["refs/tags/v1", "refs/pull/7/head", "HEAD", "c0ffee0" + "0" * 33])
def test_a_ref_that_is_no_branch_gets_no_secret_of_branches(worker: Worker, ref: str) -> None:
    secret(branches=("v1", "main", "7", "c0ffee*", "*"))
    job = started(worker, "build", git_ref=ref)
    with pytest.raises(ApplicationError):
        ask(worker, job, Receiver().channel())
    assert "no branch" in str(Job.get(job.job_id).error_message)


def test_an_agent_cannot_report_another_definition_for_a_job_of_a_graph(worker: Worker) -> None:
    """One that holds a job of a run must not get the secrets that this job does not name."""
    secret()
    job = started(worker, "plain")
    with pytest.raises(Unprocessable, match="defines this job"):
        worker.report(job, f"secrets: [PYPI_TOKEN]\n{STEPS}")
    assert Job.get(job.job_id).defined_attempt is None


def test_the_job_of_a_pull_request_gets_no_secret_also_when_it_is_run_again(worker: Worker) -> None:
    secret()
    secret(branches=("main",))
    pipeline_save(
        actor=ADMIN,
        name="alone",
        repository="https://git.example.com/a.git",
        default_ref="main",
        definition=f"secrets: [PYPI_TOKEN]\n{STEPS}",
    )
    created = job_create(actor=OPERATOR, pipeline="alone", event=PULL_REQUEST)  # type: ignore[arg-type]
    for _ in range(2):
        job = worker.take()
        assert job.job_id == created.job_id
        with pytest.raises(Conflict):
            ask(worker, job, Receiver().channel())
        assert "a pull request" in str(Job.get(job.job_id).error_message)
        created = job_retry(actor=OPERATOR, job_id=str(job.job_id))
    assert secret_deliveries("PYPI_TOKEN").deliveries == []


def test_the_value_is_in_no_answer_but_the_encrypted_one(server: str, worker: Worker) -> None:
    secret()
    worker.run(USES)
    agent, receiver = enrolled(server), Receiver()
    answers = []
    for assignment in agent.heartbeat(free_slots=2)["jobs"]:
        answer = agent.start(assignment, secrets_key=receiver.public)
        assert answer.status_code == 200, answer.text
        assert VALUE not in answer.text
        answers.append(answer.json())
    encrypted = {answer["name"]: answer["sealed_secrets"] for answer in answers}
    assert encrypted["plain"] is None
    job = Job.get(next(answer["job_id"] for answer in answers if answer["name"] == "build"))
    assert receiver.open(encrypted["build"], job, agent.agent_id) == {"PYPI_TOKEN": VALUE}
    assert agent.start({"job_id": job.job_id, "attempt": 1}, secrets_key="AAAA").status_code == 400


def test_the_names_of_secrets_are_read_from_both_forms() -> None:
    assert secrets_named({"secrets": ["A", {"name": "B", "file": True}]}) == ["A", "B"]
    assert secrets_named(None) == secrets_named({}) == []
