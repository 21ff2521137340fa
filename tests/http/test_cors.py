"""CORS: a page of another origin can read the headers that the API answers with."""

import re
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from tests.clients import Client

ROOT = Path(__file__).parents[2]
ORIGIN = "https://app.example.com"
# The browser obeys these itself, or they describe the body that it passes on.
OF_BROWSERS = {"Allow", "Cache-Control", "Content-Encoding", "Vary", "X-Content-Type-Options"}


def answered_headers() -> set[str]:
    """The names of headers that the API's code sets."""
    sources = [*(ROOT / "apps").glob("*/api.py"), *(ROOT / "apps").glob("*/api/*.py")]
    sources += [ROOT / "controlplane/http/problems.py", ROOT / "controlplane/observability/middleware.py"]
    text = "\n".join(source.read_text() for source in sources)
    return set(re.findall(r'"([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*)"(?::|\]\s*=[^=])', text))


def test_the_code_that_this_reads_is_the_right_one() -> None:
    assert {"Location", "Link", "Retry-After", "X-Next-Offset"} <= answered_headers()


@pytest.mark.parametrize("name", sorted(answered_headers() - OF_BROWSERS))
def test_cors_exposes_the_headers_that_the_frontend_needs(name: str) -> None:
    assert name in django_settings.CORS_EXPOSE_HEADERS


def test_a_frontend_reads_headers_of_answers_and_errors(outsider: Client, settings: object) -> None:
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]  # type: ignore[attr-defined]
    answer = outsider.get("/jobs", headers={"Origin": ORIGIN})
    assert answer.status_code == 401
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"WWW-Authenticate", "X-Request-Id", "Retry-After", "Content-Disposition", "Date"} <= set(exposed)
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    allowed = outsider.request("OPTIONS", "/schema", headers={"Origin": ORIGIN, **asks})
    assert "if-none-match" in allowed.headers["Access-Control-Allow-Headers"]
