"""No log line contains a secret or an e-mail address."""

import logging
import re
import secrets
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import override_settings

from apps.accounts.models import api_token_new, invitation_token_new
from apps.accounts.policies import Permission
from apps.accounts.services import invitation_create, session_start, user_create
from apps.agents.services import enrolment_token_create
from controlplane.lib import clock
from controlplane.lib.actor import SYSTEM, Actor
from controlplane.observability.logs import secrets_hide
from tests.clients import Client
from tests.conftest import PASSWORD, person
from tests.observability.conftest import Written
from tests.signing import AgentClient

ADMIN = Actor("user", "01kaadmin00000000000000000", "Ada", frozenset(Permission))
ADDRESS = "grace@example.com"
CODE = "oauth-code-" + secrets.token_hex(8)
ENV_VALUE = "env-value-" + secrets.token_hex(8)


def machine(token: str) -> dict[str, object]:
    return {
        "token": token,
        "name": "builder",
        "region": "local",
        "labels": [],
        "slots": 1,
        "hostname": "builder",
        "os": "linux",
        "arch": "x86_64",
        "version": "0.1.0",
    }


def test_no_secret_of_a_real_request_is_logged(server: str, pipeline: str, written: Written) -> None:
    grace = user_create(email=ADDRESS, password=PASSWORD, name="Grace", role="admin", actor=SYSTEM)
    session = session_start(user=grace, provider="github", device="tests", address="127.0.0.1").token
    _, enrolment = enrolment_token_create(uses=1, expires_at=clock.now() + timedelta(hours=1), actor=ADMIN)
    _, invitation = invitation_create(email="eve@example.com", role="viewer", actor=SYSTEM)
    operator, outsider = person(server, "operator"), Client(server)
    wrong_token = "hcp_" + secrets.token_urlsafe(32)

    operator.get("/jobs")
    operator.post("/jobs", json={"git_ref": "main", "env": {"DEPLOY_KEY": ENV_VALUE}})
    operator.post("/jobs", json={"git_ref": "main", "env": {"DEPLOY_KEY": ENV_VALUE}, "nonsense": ENV_VALUE})
    Client(server, wrong_token).get("/jobs")
    Client(server, session).get("/jobs")
    minted = Client(server, session).post("/tokens", json={"name": "new", "permissions": ["jobs.read"]}).json()["token"]
    outsider.post("/auth/validate", json={"session_id": session})
    outsider.post("/auth/session", json={"user_id": "1", "provider": "github", "oauth_tokens": {"access_token": CODE}})
    outsider.get(f"/oauth/github/complete?code={CODE}&state={CODE}")
    outsider.get(f"/oauth/unknown/complete?code={CODE}")
    outsider.get(f"/wrong/{wrong_token}?session_id={session}")
    form = outsider.get("/signin").text
    csrf = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert csrf is not None
    outsider.post("/signin", data={"csrfmiddlewaretoken": csrf[1], "email": ADDRESS, "password": PASSWORD})
    outsider.post("/invitation", data={"csrfmiddlewaretoken": csrf[1], "code": invitation})
    outsider.get("/dashboard/")
    enrolled = outsider.post("/agents/enrol", json=machine(enrolment)).json()
    outsider.post("/agents/enrol", json=machine(enrolment))
    outsider.post(f"/auth/logout?session_id={session}")

    assert len(written.requests) >= 15
    cookies = list(outsider.session.cookies.values())
    key = enrolled["workload_identity_secret"]
    known = [session, enrolment, key, wrong_token, minted, operator.token, CODE, ENV_VALUE, PASSWORD, ADDRESS, csrf[1]]
    known += [invitation, "eve@example.com"]
    for secret in [*known, *cookies]:
        assert str(secret) not in written.text


def test_secrets_in_the_message_of_a_bug_are_hidden(
    server: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, key = "hcp_" + secrets.token_urlsafe(32), "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="
    longer = [api_token_new("01kaadmin00000000000000000"), invitation_token_new(ADDRESS)]
    said = f"{longer} {ADDRESS} sent {token} to https://example.com/cb?code={CODE}&session_id={'s' * 32} with {key}"
    monkeypatch.setattr("tests.http.broken_urls.SECRET", said)
    with override_settings(ROOT_URLCONF="tests.http.broken_urls"):
        Client(server).get(f"/plain-bug?token={CODE}")
    (line,) = written.requests
    assert "RuntimeError" in line["exception"]
    for secret in (ADDRESS, token, key, CODE, "s" * 32, *longer):
        assert secret not in written.text


def test_the_output_of_a_job_and_the_agents_key_are_not_logged(
    agent: AgentClient, make_job: Callable[..., str], written: Written
) -> None:
    make_job(env={"DEPLOY_KEY": ENV_VALUE})
    assignment = agent.take()
    agent.log(assignment, 0, f"password={CODE}\n".encode())
    agent.finish(assignment, exit_code=1, error_message=f"could not log in with {CODE}")
    assert len(written.requests) == 4
    for secret in (ENV_VALUE, CODE, agent.secret.hex(), agent.key_id):
        assert secret not in written.text


def test_djangos_own_lines_do_not_contain_the_request(server: str, written: Written) -> None:
    answer = Client(server).get("/jobs", headers={"Host": "evil.example.com"}, params={"token": CODE})
    assert answer.status_code == 400
    assert CODE not in written.text
    logging.getLogger("django.template").error("odd", extra={"request": object(), "status_code": 400})
    assert "object" not in written.lines[-1]


@pytest.mark.parametrize("text", ["a", "a.", "?a=", "a@", "&", "hce_", "%40"])
def test_a_long_text_is_searched_in_linear_time(text: str) -> None:
    # In quadratic time this takes minutes.
    long = text * 300_000
    assert len(secrets_hide(long)) <= 4 * len(long)


@pytest.mark.parametrize(
    "text",
    [
        "GET /jobs/01kaadmin00000000000000000: 200 in 3 ms",
        'File "/var/task/django/core/handlers/exception.py", line 55, in inner',
        "botocore.exceptions.ClientError: An error occurred (ValidationException) when calling the Query operation",
        "c6af9ac6-7b61-11e6-9a41-93e8deadbeef 1-5759e988-bd862e3fe1be46a994272793 JKJaXmPLvHcESHA=",
        "arn:aws:dynamodb:eu-central-1:000000000000:table/hybrid-ci-cd-jobs-staging",
    ],
)
def test_text_without_secrets_is_not_changed(text: str) -> None:
    assert secrets_hide(text) == text
