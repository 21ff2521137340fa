"""The page ``/docs`` shows the document at ``/schema``."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.clients import Client

VOID = {"meta", "link", "input", "br"}


class Nesting(HTMLParser):
    """Fails for elements that are not closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def test_every_operation_of_the_document_is_on_the_page(outsider: Client) -> None:
    page = outsider.get("/docs").text
    document = outsider.get("/schema", headers={"Accept": "application/json"}).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            article = re.search(rf'<article[^>]* id="{operation["operationId"]}".*?</article>', page, re.DOTALL)
            assert article, operation["operationId"]
            assert f">{path}</a>" in article[0]
            assert f">{method.upper()}</span>" in article[0]
            for parameter in operation.get("parameters", []):
                assert f'<span class="member-name mono">{parameter["name"]}</span>' in article[0]


def test_members_of_members_and_examples_are_shown(outsider: Client) -> None:
    page = outsider.get("/docs").text
    article = page.partition('id="agent_heartbeat"')[2].partition("</article>")[0]
    assert 'member-depth-1">\n    <span class="member-name mono">job_id</span>' in article
    assert "<strong>200</strong> OK" in article
    assert "429" in article
    create = page.partition('id="tokens_create"')[2].partition("</article>")[0]
    assert "curl -X POST &quot;$URL/tokens&quot;" in create
    assert "Authorization: Bearer $TOKEN" in create


def test_the_page_is_well_formed_and_public_and_has_a_content_security_policy(outsider: Client) -> None:
    answer = outsider.get("/docs", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for forbidden in (" style=", "<style", "<script>", " onclick"):
        assert forbidden not in answer.text
    nesting = Nesting()
    nesting.feed(answer.text)
    assert nesting.open == []


def test_commands_on_the_page_use_the_address_of_the_request(outsider: Client) -> None:
    assert f"URL={outsider.server}\n" in outsider.get("/docs").text


def test_every_page_and_every_error_has_a_content_security_policy(outsider: Client) -> None:
    for path in ("/signin", "/docs", "/no-such-page"):
        policy = outsider.get(path, headers={"Accept": "text/html"}).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert "Content-Security-Policy" not in outsider.get("/health").headers


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_the_document_is_made_once_and_sent_once(
    outsider: Client, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    first = outsider.get("/schema", headers=headers)
    # Nothing makes it again.
    monkeypatch.setattr("controlplane.http.api_document.SchemaGenerator", None)
    again = outsider.get("/schema", headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    packed = outsider.get("/schema", headers={**headers, "Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    # The client has unpacked it.
    assert packed.content == first.content
    assert int(packed.headers["Content-Length"]) < len(first.content) / 4


def test_a_query_chooses_the_format_of_the_document(outsider: Client) -> None:
    assert outsider.get("/schema?format=json").json()["openapi"].startswith("3.")
    assert outsider.get("/schema?format=yaml", headers={"Accept": "application/json"}).text.startswith("openapi: 3.")
    assert outsider.get("/schema?format=nonsense").text.startswith("openapi: 3.")


def test_the_page_says_how_large_each_body_may_be(outsider: Client) -> None:
    article = outsider.get("/docs").text.partition('id="jobs_create"')[2].partition("</article>")[0]
    assert "At most 131,072 bytes." in article
