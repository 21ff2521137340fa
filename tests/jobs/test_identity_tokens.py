"""Identity tokens of jobs: who gets one over HTTP, and what a library of those who trust it says."""

import base64
import hmac
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.cache import cache

from apps.agents.models import Agent
from apps.agents.selectors import identity_forget
from apps.audit.models import AuditRecord
from apps.jobs.models import Job
from apps.secrets.services import identity_tokens
from controlplane.lib import clock
from controlplane.lib.errors import Unavailable
from controlplane.lib.signing_keys import Purpose, SigningKey, signing_key
from tests.clients import problem
from tests.jobs.runs import graph_pipeline
from tests.jobs.test_deployment_targets import deployer
from tests.metering import dynamodb_calls
from tests.properties.consistency import Items
from tests.signing import AgentClient, enrolled

MakeJob = Callable[..., str]
Assignment = dict[str, Any]
AUDIENCE = "sts.amazonaws.com"
DEPLOY = "jobs: {ship: {environment: production, steps: [{run: make deploy}]}}"


def ask(agent: AgentClient, assignment: Assignment, audience: Any = AUDIENCE) -> requests.Response:
    """Ask for a token as the agent does for a step."""
    body = {"attempt": assignment["attempt"], "audience": audience}
    return agent.post(f"/jobs/{assignment['job_id']}/token", body)


def token_of(agent: AgentClient, assignment: Assignment) -> str:
    answer = ask(agent, assignment)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def verified(server: str, token: str, *, audience: str = AUDIENCE) -> dict[str, Any]:
    """The claims of a token, verified as by a system that knows only the issuer."""
    discovery = requests.get(f"{server}/.well-known/openid-configuration", timeout=10).json()
    key = jwt.PyJWKClient(discovery["jwks_uri"]).get_signing_key_from_jwt(token)
    options: Any = {"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]}
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=discovery["id_token_signing_alg_values_supported"],
        audience=audience,
        issuer=discovery["issuer"],
        options=options,
    )
    return claims


def recorded(action: str) -> list[dict[str, Any]]:
    """The audit events with this action: target, actor, result and the details."""
    return [
        {
            "target": item["target"]["S"],
            "actor": item["actor_id"]["S"],
            "result": item["result"]["S"],
            **json.loads(item["detail"]["S"]),
        }
        for item in Items().of(AuditRecord)
        if item["action"]["S"] == f"identity_token.{action}"
    ]


@pytest.fixture
def running(agent: AgentClient, make_job: MakeJob) -> Assignment:
    """A job that the agent runs."""
    make_job(git_ref="refs/heads/main")
    return agent.take()


def test_a_job_shows_by_its_token_which_one_it_is(server: str, agent: AgentClient, running: Assignment) -> None:
    token = token_of(agent, running)
    claims = verified(server, token)
    key_id = signing_key(Purpose.IDENTITY).key_id
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": key_id, "typ": "JWT"}
    job = Job.get(running["job_id"])
    assert (claims["iss"], claims["aud"]) == (server, AUDIENCE)
    assert claims["sub"] == "pipeline:self:ref:refs/heads/main"
    assert claims["exp"] - claims["iat"] == 900
    of_job = {
        name: claims[name] for name in ("pipeline", "repository", "branch", "event", "run_id", "job_id", "attempt")
    }
    assert of_job == {
        "pipeline": "self",
        "repository": "https://git.example.com/app.git",
        "branch": "main",
        "event": "api",
        "run_id": job.run_id,
        "job_id": job.job_id,
        "attempt": "1",
    }
    assert (claims["agent_id"], claims["agent_name"]) == (agent.agent_id, "build-1")
    assert claims["agent_deployment_targets"] == []


def deploying(server: str, make_job: MakeJob) -> tuple[AgentClient, Assignment]:
    """An agent that may deploy to production and staging, and the job of a graph that it runs, which does the first."""
    make_job(pipeline=graph_pipeline())
    agent = deployer(server, ["production", "staging"])
    reader = agent.take()
    assert agent.define(reader, DEPLOY).status_code == 200
    agent.finish(reader)
    return agent, agent.take()


def test_a_job_with_an_environment_shows_that_too(server: str, make_job: MakeJob) -> None:
    claims = verified(server, token_of(*deploying(server, make_job)))
    assert claims["sub"] == "pipeline:graph:environment:production:ref:refs/heads/main"
    assert claims["environment"] == "production"
    assert claims["agent_deployment_targets"] == ["production", "staging"]
    assert claims["reported_commit"] == "c" * 40


def test_a_job_gets_no_token_for_an_environment_to_which_its_agent_may_not_deploy(
    server: str, make_job: MakeJob
) -> None:
    agent, assignment = deploying(server, make_job)
    Agent(agent.agent_id).update([Agent.deployment_targets.set(["staging"])])
    identity_forget(agent.agent_id)
    refused = problem(ask(agent, assignment), 403, "environment_forbidden")
    assert "with the deployment target production" in refused["detail"]
    assert recorded("issued") == []
    assert [event["code"] for event in recorded("refused")] == ["environment_forbidden"]


def test_a_pull_requests_job_has_the_subject_of_no_branch(server: str, agent: AgentClient, running: Assignment) -> None:
    Job(running["job_id"]).update([Job.event.set("pull_request")])
    claims = verified(server, token_of(agent, running))
    assert (claims["sub"], claims["event"]) == ("pipeline:self:pull_request", "pull_request")
    assert not {"branch", "ref", "environment"} & claims.keys()


# --- what others refuse ---------------------------------------------------------------------------------------------


def parts(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "==") for part in token.split(".")]


def joined(*content: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in content)


def test_a_token_that_has_ended_is_refused(server: str, agent: AgentClient, running: Assignment) -> None:
    with clock.shifted(timedelta(minutes=-16)):
        token = token_of(agent, running)
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(server, token)


def test_a_token_for_another_system_is_refused(server: str, agent: AgentClient, running: Assignment) -> None:
    with pytest.raises(jwt.InvalidAudienceError):
        verified(server, token_of(agent, running), audience="vault")


def test_a_token_of_another_issuer_is_refused(
    server: str, agent: AgentClient, running: Assignment, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://other.example.com"
    token = token_of(agent, running)
    settings.PUBLIC_URL = ""
    with pytest.raises(jwt.InvalidIssuerError):
        verified(server, token)


def test_a_changed_token_is_refused(server: str, agent: AgentClient, running: Assignment) -> None:
    head, body, signature = parts(token_of(agent, running))
    other = body.replace(b"refs/heads/main", b"refs/heads/prod")
    assert other != body
    with pytest.raises(jwt.InvalidSignatureError):
        verified(server, joined(head, other, signature))


def test_a_token_without_a_signature_is_refused(server: str, agent: AgentClient, running: Assignment) -> None:
    head, body, _ = parts(token_of(agent, running))
    unsigned = {**json.loads(head), "alg": "none"}
    with pytest.raises(jwt.InvalidAlgorithmError):
        verified(server, joined(json.dumps(unsigned).encode(), body, b""))


def test_a_token_that_is_signed_with_the_public_key_as_a_secret_is_refused(
    server: str, agent: AgentClient, running: Assignment
) -> None:
    """The library itself would not sign so."""
    head, body, _ = parts(token_of(agent, running))
    public_key = signing_key(Purpose.IDENTITY).public_key
    secret = public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forged = joined(json.dumps({**json.loads(head), "alg": "HS256"}).encode(), body)
    signature = hmac.digest(secret, forged.encode(), "sha256")
    with pytest.raises(jwt.InvalidAlgorithmError):
        verified(server, f"{forged}.{joined(signature)}")


@pytest.mark.parametrize("is_named", [True, False], ids=["with our key's id", "with its own id"])
def test_a_token_of_another_key_is_refused(
    server: str, agent: AgentClient, running: Assignment, is_named: bool
) -> None:
    _, body, _ = parts(token_of(agent, running))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_id = signing_key(Purpose.IDENTITY).key_id if is_named else "0" * 16
    forged = jwt.encode(json.loads(body), other, algorithm="RS256", headers={"kid": key_id})
    with pytest.raises((jwt.InvalidSignatureError, jwt.PyJWKClientError)):
        verified(server, forged)


# --- who gets none --------------------------------------------------------------------------------------------------


def test_an_agent_gets_no_token_for_another_agents_job(server: str, agent: AgentClient, running: Assignment) -> None:
    hostile = enrolled(server, name="build-2")
    for _ in range(3):
        problem(ask(hostile, running), 409, "stale_attempt")
    assert recorded("issued") == []
    assert recorded("refused") == [
        {
            "target": f"identity:{running['job_id']}",
            "job": running["job_id"],
            "actor": hostile.agent_id,
            "result": "refused",
            "audience": AUDIENCE,
            "attempt": 1,
            "code": "stale_attempt",
        }
    ]
    cache.clear()
    problem(ask(hostile, running), 409, "stale_attempt")
    assert len(recorded("refused")) == 1


def test_an_agent_cannot_ask_in_another_agents_name(server: str, agent: AgentClient, running: Assignment) -> None:
    hostile = enrolled(server, name="build-2")
    body = json.dumps({"attempt": 1, "audience": AUDIENCE}).encode()
    path = f"/agents/{agent.agent_id}/jobs/{running['job_id']}/token"
    problem(hostile.send(hostile.signed(path, body)), 403, "wrong_agent")
    problem(requests.post(server + path, data=body, timeout=10), 401, "signature_missing")
    assert recorded("issued") == []


def test_there_is_no_token_before_the_start_and_after_the_end(agent: AgentClient, make_job: MakeJob) -> None:
    make_job()
    (assignment,) = agent.heartbeat()["jobs"]
    problem(ask(agent, assignment), 409, "stale_attempt")
    agent.start(assignment)
    assert ask(agent, assignment).status_code == 200
    agent.finish(assignment)
    problem(ask(agent, assignment), 409, "stale_attempt")
    assert len(recorded("issued")) == 1


@pytest.mark.parametrize("attempt", [0, 2, 2**53])
def test_there_is_no_token_for_another_attempt(agent: AgentClient, running: Assignment, attempt: int) -> None:
    answer = ask(agent, {**running, "attempt": attempt})
    assert answer.status_code in (400, 409), answer.text
    assert recorded("issued") == []


def test_there_is_no_token_for_an_unknown_job(agent: AgentClient, running: Assignment) -> None:
    problem(ask(agent, {**running, "job_id": agent.agent_id}), 404, "job_not_found")
    assert recorded("refused") == []


def test_an_attempt_that_ends_while_its_token_is_signed_gets_none(
    agent: AgentClient, running: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_and_sign(purpose: Purpose) -> SigningKey:
        assert agent.finish(running).status_code == 200
        return signing_key(purpose)

    monkeypatch.setattr(identity_tokens, "signing_key", end_and_sign)
    problem(ask(agent, running), 409, "stale_attempt")
    assert recorded("issued") == []


@pytest.mark.parametrize("audience", ["a b", "zürich", None, ["aws"]])
def test_an_audience_is_visible_ascii(agent: AgentClient, running: Assignment, audience: Any) -> None:
    refused = problem(ask(agent, running, audience), 400, "invalid_input")
    assert [error["field"] for error in refused["errors"]] == ["audience"]
    assert recorded("issued") == []


def test_any_system_may_be_the_audience(server: str, agent: AgentClient, running: Assignment) -> None:
    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/providers/ci"
    for audience in (pool, "api://AzureADTokenExchange", "a" * 255):
        token = ask(agent, running, audience).json()["token"]
        assert verified(server, token, audience=audience)["aud"] == audience


def test_a_token_ends_with_the_time_limit_of_its_job(server: str, agent: AgentClient, running: Assignment) -> None:
    """The default limit is an hour, and two minutes later the control plane itself ends the attempt."""
    Job(running["job_id"]).update([Job.started_at.set(clock.timestamp(clock.now() - timedelta(minutes=50)))])
    claims = verified(server, token_of(agent, running))
    assert 715 <= claims["exp"] - claims["iat"] <= 720
    Job(running["job_id"]).update([Job.started_at.set(clock.timestamp(clock.now() - timedelta(minutes=63)))])
    problem(ask(agent, running), 409, "stale_attempt")


def test_a_token_that_kms_could_not_sign_is_refused_by_name(
    agent: AgentClient, running: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = "ü" * 255
    Job(running["job_id"]).update([Job.git_ref.set(ref)])
    problem(ask(agent, running), 422, "identity_token_too_long")
    assert recorded("issued") == []


def test_without_kms_there_is_no_token_and_nothing_is_counted(
    agent: AgentClient, running: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Purpose) -> SigningKey:
        raise Unavailable("KMS does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(identity_tokens, "signing_key", fail)
        problem(ask(agent, running), 503, "unavailable")
    assert recorded("issued") == recorded("refused") == []


# --- the limit and the trail ----------------------------------------------------------------------------------------


def test_each_token_is_an_audit_event_with_audience_job_and_agent(
    server: str, agent: AgentClient, running: Assignment
) -> None:
    claims = [verified(server, token_of(agent, running)) for _ in range(2)]
    events = sorted(recorded("issued"), key=lambda event: [claim["jti"] for claim in claims].index(event["token"]))
    assert events == [
        {
            "target": f"identity:{running['job_id']}",
            "job": running["job_id"],
            "actor": agent.agent_id,
            "result": "ok",
            "audience": AUDIENCE,
            "subject": claim["sub"],
            "token": claim["jti"],
            "key": signing_key(Purpose.IDENTITY).key_id,
            "attempt": 1,
            "run": claim["run_id"],
            "expires": claim["exp"],
        }
        for claim in claims
    ]


@pytest.mark.parametrize(
    ("most", "asked"), [(8, 40), pytest.param(None, 1000, marks=pytest.mark.nightly)], ids=["small", "full"]
)
def test_a_hostile_job_that_asks_again_and_again_gets_as_many_as_are_allowed(
    agent: AgentClient, running: Assignment, monkeypatch: pytest.MonkeyPatch, most: int | None, asked: int
) -> None:
    if most:
        monkeypatch.setattr(identity_tokens, "MOST_OF_AN_ATTEMPT", most)
    else:
        assert identity_tokens.MOST_OF_AN_ATTEMPT == 100
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(agent, running), range(asked)))
    allowed = identity_tokens.MOST_OF_AN_ATTEMPT
    assert Counter(answer.status_code for answer in answers) == {200: allowed, 429: asked - allowed}
    refused = problem(next(answer for answer in answers if answer.status_code == 429), 429, "too_many_identity_tokens")
    assert "use the token again until it ends" in refused["detail"]
    assert len({answer.json()["token"] for answer in answers if answer.status_code == 200}) == allowed
    assert (len(recorded("issued")), len(recorded("refused"))) == (allowed, 1)


def test_the_next_attempt_has_a_limit_of_its_own_and_a_refused_one_costs_no_signature(
    agent: AgentClient, running: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity_tokens, "MOST_OF_AN_ATTEMPT", 1)
    signed: list[Purpose] = []

    def note(purpose: Purpose) -> SigningKey:
        signed.append(purpose)
        return signing_key(purpose)

    monkeypatch.setattr(identity_tokens, "signing_key", note)
    assert ask(agent, running).status_code == 200
    # The second one is signed in vain, since only DynamoDB knows the count.
    for _ in range(3):
        problem(ask(agent, running), 429, "too_many_identity_tokens")
    assert len(signed) == 2
    Job(running["job_id"]).update([Job.attempt.set(2)])
    assert ask(agent, {**running, "attempt": 2}).status_code == 200


def test_a_token_costs_a_read_and_a_transaction_of_8_units(agent: AgentClient, running: Assignment) -> None:
    token_of(agent, running)
    with dynamodb_calls() as metering:
        token_of(agent, running)
    assert metering.operations == ["GetItem", "TransactWriteItems"]
    assert metering.consistent == 1
    assert metering.write_units <= 8


def test_a_token_for_a_job_of_a_graph_costs_a_query_more(server: str, make_job: MakeJob) -> None:
    agent, assignment = deploying(server, make_job)
    token_of(agent, assignment)
    with dynamodb_calls() as metering:
        token_of(agent, assignment)
    assert metering.operations == ["GetItem", "Query", "TransactWriteItems"]
    assert metering.consistent == 2
