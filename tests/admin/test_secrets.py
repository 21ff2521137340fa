"""Secrets in the admin: their values go in, and no page shows one."""

import re

from apps.secrets.selectors import secret_get, secret_list
from apps.secrets.services import version_value
from tests.admin.conftest import Browser, errors, rows
from tests.secrets.conftest import VALUE, secret_made

SECRETS = "/admin/secrets/secret/"
FIELDS = {"name": "PYPI_TOKEN", "pipeline": "web", "environment": "", "branches": "main", "description": "Uploads."}


def test_a_secret_is_added_changed_and_deleted(operator: Browser) -> None:
    operator.send(f"{SECRETS}add/", **FIELDS, value="first line\r\nsecond line")
    (secret,) = secret_list().secrets
    assert version_value(secret_id=secret.secret_id, number=1) == "first line\nsecond line"
    assert "pipeline web, branches main" in rows(operator.page(SECRETS))[0]
    page = operator.page(f"{SECRETS}{secret.secret_id}/change/")
    assert "second line" not in page
    assert 'value="Uploads."' in page
    operator.send(f"{SECRETS}{secret.secret_id}/change/", value="", owner="Team Web", description="Uploads.")
    assert (secret_get(secret.secret_id).owner, secret_get(secret.secret_id).current) == ("Team Web", 1)
    operator.send(f"{SECRETS}{secret.secret_id}/change/", value="another value", owner="Team Web", description="")
    assert version_value(secret_id=secret.secret_id, number=2) == "another value"
    assert "secret version added" in operator.page(f"{SECRETS}{secret.secret_id}/history/")
    found = re.search(
        r'name="csrfmiddlewaretoken" value="(\w+)"', operator.page(f"{SECRETS}{secret.secret_id}/delete/")
    )
    assert found
    operator.post(f"{SECRETS}{secret.secret_id}/delete/", data={"csrfmiddlewaretoken": found[1], "post": "yes"})
    assert secret_list().secrets == []


def test_a_mistake_is_shown_and_the_value_is_not(operator: Browser) -> None:
    answer = operator.send(f"{SECRETS}add/", **FIELDS, value="tiny")
    assert "must have at least 8 characters" in errors(answer.text)
    assert "tiny" not in answer.text
    secret_made()
    answer = operator.send(f"{SECRETS}add/", name="PYPI_TOKEN", value=VALUE)
    assert "There is already a secret PYPI_TOKEN" in errors(answer.text)
    assert VALUE not in answer.text
