"""With what agents fetch private repositories: what a start answers, and what it says when there is nothing."""

import json
from datetime import timedelta
from typing import Any

import pytest

from agent.fetch_access import fetch_access
from agent.job_secrets import AttemptKey
from apps.audit.selectors import audit_list
from apps.jobs.models import Job
from apps.jobs.selectors.job_origin import PULL_REQUEST
from apps.jobs.services import Channel, job_create, job_retry, start_fetch_access
from apps.pipelines.models import Pipeline
from apps.secrets.services import secret_create, secret_set
from apps.secrets.states import Scope
from controlplane.lib import clock
from controlplane.lib.errors import Conflict, RetryLater, Unavailable
from tests.conftest import OPERATOR
from tests.jobs.runs import STEPS, Worker
from tests.metering import dynamodb_calls
from tests.sources.conftest import app_connection, connection_of
from tests.sources.conftest import provider as provider
from tests.sources.fake_provider import FakeProvider

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n"
HTTPS, SSH = "https://git.example.com/acme/shop.git", "git@git.example.com:acme/shop.git"


def pipeline(repository: str, **members: Any) -> None:
    """The pipeline "shop", bound and with a secret as the members say."""
    now = clock.timestamp(clock.now())
    Pipeline(name="shop", repository=repository, default_ref="main", created_at=now, updated_at=now, **members).save()


def secret(value: str, name: str = "DEPLOY", **scope: Any) -> None:
    secret_create(actor=OPERATOR, name=name, value=value, scope=Scope(**scope))


def started(worker: Worker, **members: Any) -> Job:
    """The first job of a new run, started."""
    job = job_create(actor=OPERATOR, pipeline="shop", **members)
    worker.claim()
    return worker.start(job.job_id)


def ask(worker: Worker, job: Job, key: AttemptKey | None = None, **channel: Any) -> dict[str, str] | None:
    """What the agent reads in the answer to the start of the job."""
    key = key or AttemptKey()
    public = channel.get("public", key.public)
    encrypted = start_fetch_access(
        agent=worker.agent, job=job, attempt=int(job.attempt), channel=Channel(public, frozenset())
    )
    if encrypted is None:
        return None
    place = (str(job.job_id), int(job.attempt))
    access = fetch_access(encrypted, key, repository=str(job.repository), agent_id=worker.agent.id, job=place)
    given = {name: getattr(access, name) for name in ("url", "username", "password", "private_key", "realm")}
    return {name: text for name, text in given.items() if text}


def failure(worker: Worker, job: Job) -> str:
    """Why the job failed at its start."""
    with pytest.raises(Conflict) as caught:
        ask(worker, job)
    assert caught.value.code == "stale_attempt"
    ended = Job.get(job.job_id)
    assert ended.status == "failed"
    return str(ended.error_message)


def events(action: str) -> list[dict[str, Any]]:
    day = clock.timestamp(clock.now())[:10]
    return [dict(one.detail or {}) for one in audit_list(day=day).records if one.action == action]


def test_a_job_of_a_pipeline_without_credentials_costs_nothing(worker: Worker) -> None:
    pipeline(HTTPS)
    job = started(worker)
    with dynamodb_calls() as metering:
        assert ask(worker, job) is None
    assert metering.calls == 0


def test_an_app_gives_a_token_for_the_one_repository_and_contents_read(worker: Worker, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    provider.repository_add("acme/other")
    app_connection(provider).save()
    pipeline(f"{provider.url}/acme/shop.git", source="github", source_repository="acme/shop")
    job = started(worker)
    given = ask(worker, job)
    assert given is not None
    made = provider.tokens[given["password"]]
    assert (made.repositories, made.permissions) == (["acme/shop"], {"contents": "read"})
    assert (given["url"], given["username"]) == (f"{provider.url}/", "x-access-token")
    assert given["realm"] == "connection:github"
    (event,) = events("connection.token_delivered")
    assert (event["repository"], event["job"], event["attempt"]) == ("acme/shop", job.job_id, 1)
    # Nothing of it is stored: neither in the job nor in the trail.
    assert given["password"] not in json.dumps(event) + json.dumps(Job.get(job.job_id).to_simple_dict(), default=str)


def test_jobs_of_a_graph_and_retries_get_it_too(worker: Worker, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    app_connection(provider).save()
    pipeline(f"{provider.url}/acme/shop.git", source="github", source_repository="acme/shop")
    worker.run(f"jobs: {{build: {{{STEPS}}}}}", pipeline="shop")
    job = worker.take()
    assert job.node == "build"
    assert ask(worker, job) is not None
    worker.finish(job, exit_code=1)
    again = job_retry(actor=OPERATOR, job_id=str(job.job_id))
    worker.claim()
    assert ask(worker, worker.start(str(again.job_id))) is not None


def test_a_secret_with_a_token_opens_its_server_and_of_a_proposed_change_the_repository_alone(worker: Worker) -> None:
    secret("glpat-1234567890")
    pipeline(HTTPS, fetch_secret="DEPLOY")
    given = ask(worker, started(worker))
    assert given == {
        "url": "https://git.example.com/",
        "username": "x-access-token",
        "password": "glpat-1234567890",
        "realm": "secret:DEPLOY",
    }
    (event,) = events("secret.delivered")
    assert (event["use"], event["pipeline"]) == ("fetch", "shop")
    job = started(worker)
    job.event = PULL_REQUEST
    proposed = ask(worker, job)
    assert proposed is not None
    assert proposed["url"] == HTTPS


def test_a_secret_can_have_a_user_and_a_token_or_a_private_key(worker: Worker) -> None:
    secret("gitlab+deploy:gldt-1234567890")
    pipeline(HTTPS, fetch_secret="DEPLOY", source="ignored", source_repository="acme/shop")
    given = ask(worker, started(worker))
    assert given is not None
    assert (given["username"], given["password"]) == ("gitlab+deploy", "gldt-1234567890")
    secret_set(actor=OPERATOR, secret_id="DEPLOY", value=KEY)
    for repository in (SSH, "ssh://git@git.example.com/acme/shop.git"):
        Pipeline.get("default", "shop").delete()
        pipeline(repository, fetch_secret="DEPLOY")
        assert ask(worker, started(worker)) == {"private_key": KEY.strip(), "realm": "secret:DEPLOY"}


def test_a_secret_of_the_pipeline_is_taken_before_that_of_all(worker: Worker) -> None:
    secret("token-of-everything")
    secret("token-of-the-shop", pipeline="shop")
    pipeline(HTTPS, fetch_secret="DEPLOY")
    given = ask(worker, started(worker))
    assert given is not None
    assert given["password"] == "token-of-the-shop"


@pytest.mark.parametrize(
    ("value", "repository", "message"),
    [
        (None, HTTPS, "There is no secret DEPLOY."),
        ("token-in-the-clear", "http://git.example.com/a.git", "needs an https address"),
        ("a-token-for-https", SSH, "needs an https address"),
        ("a-token-for-https", "file:///srv/a.git", "needs an https address"),
        (KEY, HTTPS, "needs an address of SSH"),
        ("two\nlines of text", HTTPS, "must have a token, user:token, or a private key"),
    ],
)
def test_a_job_whose_secret_does_not_fit_fails_with_the_reason(
    worker: Worker, value: str | None, repository: str, message: str
) -> None:
    if value is not None:
        secret(value)
    pipeline(repository, fetch_secret="DEPLOY")
    said = failure(worker, started(worker))
    assert said.startswith("The repository cannot be fetched: ")
    assert message in said
    assert (value or "-") not in said


def test_a_secret_of_an_environment_or_another_pipeline_fetches_nothing(worker: Worker) -> None:
    secret("token-of-production", environment="production")
    secret("token-of-another", pipeline="other")
    pipeline(HTTPS, fetch_secret="DEPLOY")
    assert "No secret DEPLOY has a scope that includes this job" in failure(worker, started(worker))


def test_an_app_that_is_not_installed_or_a_connection_that_is_gone_fails_the_job(
    worker: Worker, provider: FakeProvider
) -> None:
    connection = app_connection(provider)
    connection.save()
    pipeline(f"{provider.url}/acme/shop.git", source="github", source_repository="acme/shop")
    assert "is not installed for acme/shop" in failure(worker, started(worker))
    connection.delete()
    assert "The connection github of its pipeline is deleted." in failure(worker, started(worker))


def test_a_provider_that_does_not_answer_delays_the_start(worker: Worker, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    app_connection(provider).save()
    pipeline(f"{provider.url}/acme/shop.git", source="github", source_repository="acme/shop")
    job = started(worker)
    provider.disturb("fail")
    with pytest.raises(Unavailable):
        ask(worker, job)
    provider.disturb("secondary", seconds=30, path="access_tokens")
    with pytest.raises(RetryLater):
        ask(worker, job)
    assert Job.get(job.job_id).status == "running"
    with clock.shifted(timedelta(seconds=31)):
        assert ask(worker, job) is not None


def test_nothing_is_given_for_a_repository_that_is_elsewhere(worker: Worker, provider: FakeProvider) -> None:
    provider.repository_add("acme/shop")
    app_connection(provider).save()
    for repository in (HTTPS, SSH, f"{provider.url}.evil.example/acme/shop.git"):
        pipeline(repository, source="github", source_repository="acme/shop")
        assert ask(worker, started(worker)) is None
        Pipeline.get("default", "shop").delete()
    # A token that users gave the connection may do more than fetch, so no agent gets it.
    connection_of(provider, "gitlab", token="glpat-1234567890").save()
    pipeline(f"{provider.url}/acme/shop.git", source="gitlab", source_repository="acme/shop")
    assert ask(worker, started(worker)) is None


def test_one_attempt_gets_them_under_one_key_and_an_older_agent_gets_none(worker: Worker) -> None:
    secret("glpat-1234567890")
    pipeline(HTTPS, fetch_secret="DEPLOY")
    job, key = started(worker), AttemptKey()
    assert ask(worker, job, public=None) is None
    assert ask(worker, job, key) == ask(worker, job, key)
    with pytest.raises(Conflict) as caught:
        ask(worker, job)
    assert caught.value.code == "secrets_delivered"
    worker.finish(job)
    with pytest.raises(Conflict) as caught:
        ask(worker, job, key)
    assert caught.value.code == "stale_attempt"
