"""The public endpoints: health and information about the control plane."""

import pytest
from django.conf import settings

from tests.clients import Client
from tests.metering import dynamodb_calls


def test_health_needs_no_sign_in(outsider: Client) -> None:
    answer = outsider.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "version": settings.VERSION})
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/health", "/info"])
def test_health_and_info_do_not_use_the_database(operator: Client, path: str) -> None:
    with dynamodb_calls() as counted:
        # A token or a cookie changes nothing about that.
        assert operator.get(path, cookies={"sessionid": "x" * 43}).status_code == 200
    assert counted.operations == []


def test_info_has_name_version_and_stage(outsider: Client) -> None:
    answer = outsider.get("/info")
    assert (answer.status_code, answer.json()) == (
        200,
        {"name": "Hybrid CI/CD Backend", "version": settings.VERSION, "environment": "test"},
    )


def test_the_root_redirects_to_the_pages(outsider: Client) -> None:
    answer = outsider.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/dashboard/")


def test_a_form_without_a_csrf_token_is_refused(outsider: Client) -> None:
    page = outsider.post("/signin", data={"email": "a@example.com"}, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "Reload the page" in page.text
