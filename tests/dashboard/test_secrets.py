"""The pages of secrets: what they show, and that no page has a value."""

import re

from apps.audit.selectors import audit_list
from apps.secrets.selectors import secret_get, secret_list
from apps.secrets.services import secret_set, version_value
from apps.secrets.services.deliveries import Attempt, secrets_deliver
from apps.secrets.states import Recipient
from controlplane.lib import clock
from controlplane.lib.actor import Actor
from controlplane.lib.ids import new_id
from controlplane.nosql.transaction import Transaction
from tests.clients import Client
from tests.conftest import ADMIN
from tests.dashboard.conftest import SignedIn
from tests.dashboard.test_pipelines import errors_of, send
from tests.dashboard.test_tests import words
from tests.jobs.deployments import environment
from tests.jobs.runs import graph_pipeline
from tests.metering import dynamodb_calls
from tests.secrets.conftest import VALUE, secret_made
from tests.secrets.test_deliveries import PUBLIC

NEW = {"name": "PYPI_TOKEN", "value": "first line\r\nsecond line", "pipeline": "web", "branches": "main, release/*"}


def test_a_secret_is_created_set_and_deleted_on_its_pages(operator: Client) -> None:
    status, address = send(operator, "new-secret", **NEW)
    secret = secret_get(address.rpartition("/")[2])
    assert (status, secret.pipeline, list(secret.branches)) == (302, "web", ["main", "release/*"])
    assert version_value(secret_id=secret.secret_id, number=1) == "first line\nsecond line"
    page = operator.get(address).text
    assert "release/*" in page
    assert str(secret.fingerprint) in page
    assert send(operator, f"secrets/{secret.secret_id}/value", value="another value") == (302, address)
    assert version_value(secret_id=secret.secret_id, number=2) == "another value"
    assert send(operator, f"secrets/{secret.secret_id}/delete") == (302, "/dashboard/secrets")
    assert secret_list().secrets == []


def test_the_form_suggests_pipelines_and_environments_and_a_typo_is_said(operator: Client) -> None:
    graph_pipeline()
    environment("production")
    page = operator.get("/dashboard/new-secret").text
    assert re.search(r'<datalist id="pipelines"><option value="graph">', page)
    assert re.search(r'<datalist id="environments"><option value="production">', page)
    assert {'list="pipelines"', 'list="environments"'} <= set(re.findall(r'list="\w+"', page))
    known = {**NEW, "pipeline": "graph", "environment": "production"}
    _, address = send(operator, "new-secret", **known)
    page = operator.get(address).text
    assert "yet" not in words(page.partition("<main")[2].partition("seen-title")[0])
    assert 'href="/dashboard/pipelines/graph"' in page
    _, address = send(operator, "new-secret", **{**NEW, "pipeline": "nopipe", "environment": "noenv"})
    page = operator.get(address).text
    assert "There is no pipeline nopipe yet." in page
    assert "There is no environment noenv yet." in page
    # The messages are shown once, and the page says it from then on, without a dead link.
    with dynamodb_calls() as metering:
        page = words(again := operator.get(address).text)
    assert metering.calls <= 9
    assert "nopipe no such pipeline yet" in page
    assert "noenv no such environment yet" in page
    assert "/dashboard/pipelines/nopipe" not in again


def test_a_mistake_is_shown_at_its_field_and_no_page_has_the_value(operator: Client) -> None:
    status, page = send(operator, "new-secret", **{**NEW, "value": "tiny", "name": "path"})
    assert status == 422
    assert "must be 1 to 64 capital letters" in errors_of(page, "name")
    status, page = send(operator, "new-secret", **{**NEW, "value": "tiny"})
    assert "must have at least 8 characters" in errors_of(page, "value")
    assert "tiny" not in page
    # What is no secret need not be written again.
    assert 'value="main, release/*"' in page
    send(operator, "new-secret", **NEW)
    status, page = send(operator, "new-secret", **NEW)
    assert (status, "There is already a secret PYPI_TOKEN with this scope" in page) == (422, True)
    assert "second line" not in page
    secret = secret_list().secrets[0]
    status, page = send(operator, f"secrets/{secret.secret_id}/value", value="tiny")
    assert status == 422
    assert "must have at least 8 characters" in errors_of(page, "value")
    assert "tiny" not in page


def test_the_page_of_a_secret_says_who_has_got_it(operator: Client) -> None:
    secret_made()
    job_id, agent = new_id(), Actor("agent", new_id(), "builder")
    tx = Transaction()
    attempt = Attempt(job_id, 2, new_id(), Recipient("web", "main"), ())
    secrets_deliver(tx, agent=agent, attempt=attempt, names=["PYPI_TOKEN"], public_key=PUBLIC).note_use()
    tx.commit()
    secret_set(actor=ADMIN, secret_id="PYPI_TOKEN", value="another value")
    with dynamodb_calls() as metering:
        page = operator.get("/dashboard/secrets/PYPI_TOKEN").text
    assert metering.calls <= 7
    assert f'href="/dashboard/jobs/{job_id}"' in page
    assert "attempt 2" in words(page)
    assert f'href="/dashboard/agents/{agent.id}"' in page
    assert "Retired" in words(page)
    assert VALUE not in page


def test_a_viewer_sees_no_secrets_and_an_auditor_changes_none(signed_in: SignedIn, operator: Client) -> None:
    secret_made()
    viewer, auditor = signed_in("viewer"), signed_in("auditor")
    assert "/dashboard/secrets" not in viewer.get("/dashboard/").text
    assert viewer.get("/dashboard/secrets").status_code == 403
    page = auditor.get("/dashboard/secrets/PYPI_TOKEN").text
    assert "/dashboard/secrets" in auditor.get("/dashboard/").text
    assert "Set a new value" not in page
    assert "Delete" not in words(page)
    assert "Set a new value" in operator.get("/dashboard/secrets/PYPI_TOKEN").text


def test_an_empty_list_says_what_a_secret_is_and_a_missing_one_is_not_found(operator: Client) -> None:
    assert "No secrets yet" in operator.get("/dashboard/secrets").text
    assert operator.get("/dashboard/secrets/NOTHING").status_code == 404


def test_no_act_leaves_the_value_in_the_audit_trail(operator: Client) -> None:
    send(operator, "new-secret", **NEW)
    events = audit_list(day=clock.timestamp(clock.now())[:10]).records
    assert not [event for event in events if "second line" in str(event.serialize())]
