"""`logs_url`: a browser opens it, and a program gets a presigned link."""

from collections.abc import Callable

import pytest

from tests.accounts.browser import Browser
from tests.clients import Client
from tests.conftest import PASSWORD

# What Firefox and Chromium send when a person opens a link.
BROWSERS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
]


def logs_url(operator: Client, job: str) -> str:
    url: str = operator.get(f"/jobs/{job}").json()["logs_url"]
    return url.removeprefix(operator.server)


@pytest.mark.parametrize("accept", BROWSERS)
def test_logs_url_opens_in_a_browser_for_who_is_signed_in(
    accept: str, operator: Client, server: str, make_job: Callable[..., str]
) -> None:
    job = make_job()
    url = logs_url(operator, job)
    browser = Browser(server)
    asks = {"Accept": accept}
    page = browser.get(url, headers=asks).headers["Location"]
    assert page == f"/dashboard/jobs/{job}"
    # Who is not signed in comes back to the page after that.
    assert browser.get(page, headers=asks).headers["Location"] == f"/signin?next={page}"
    browser.sign_in("operator@example.com", PASSWORD)
    shown = browser.get(browser.get(url, headers=asks).headers["Location"], headers=asks)
    assert (shown.status_code, f"/jobs/{job}/" in shown.text) == (200, True)


@pytest.mark.parametrize("accept", ["*/*", "text/plain", "text/plain, text/html;q=0.5", None])
def test_a_program_gets_the_log_from_logs_url(
    accept: str | None, operator: Client, make_job: Callable[..., str]
) -> None:
    answer = operator.get(logs_url(operator, make_job()), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert "Accept" in answer.headers["Vary"]


def test_a_token_gets_the_log_whatever_it_accepts(operator: Client, make_job: Callable[..., str]) -> None:
    assert operator.get(logs_url(operator, make_job()), headers={"Accept": BROWSERS[0]}).status_code == 200


def test_a_page_of_ours_downloads_the_log(operator: Client, server: str, make_job: Callable[..., str]) -> None:
    browser = Browser(server)
    browser.sign_in("operator@example.com", PASSWORD)
    answer = browser.get(f"{logs_url(operator, make_job())}?download", headers={"Accept": BROWSERS[0]})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")


def test_a_stranger_without_a_browser_is_refused(operator: Client, server: str, make_job: Callable[..., str]) -> None:
    assert Client(server).get(logs_url(operator, make_job())).status_code == 401
