"""Which addresses a pattern matches. The control plane's ALLOWED_REPOSITORIES uses the same patterns."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.repositories import RepositoryPattern, repository_is_allowed
from tests.agent.conftest import AgentProcess, History, eventually
from tests.agent.fake_server import FakeControlPlane


def _matches(pattern: str, address: str) -> bool:
    return RepositoryPattern.parse(pattern).matches(address)


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        ("github.com/acme/*", "https://github.com/acme/app"),
        ("github.com/acme/*", "https://github.com/acme/app.git"),
        ("github.com/acme/*", "https://github.com/acme/app/"),
        ("github.com/acme/*", "https://GitHub.com/acme/app"),
        ("GitHub.com/acme/*", "https://github.com:443/acme/app"),
        ("github.com/acme/*", "ssh://git@github.com/acme/app.git"),
        ("github.com/acme/*", "ssh://git@github.com:22/acme/app.git"),
        ("github.com/acme/*", "git@github.com:acme/app.git"),
        ("github.com/acme/*", "github.com:acme/app"),
        ("github.com/acme/app", "git@github.com:/acme/app.git"),
        ("github.com/acme/web-*", "https://github.com/acme/web-shop"),
        ("github.com/acme/**", "https://github.com/acme/group/app"),
        ("github.com/*/app", "https://github.com/anyone/app"),
        ("*.example.org/**", "https://git.example.org/a/b"),
        ("*.example.org/**", "https://a.git.example.org/a"),
        ("git.example.org:8443/a", "https://git.example.org:8443/a"),
        ("http://git.lan/tools/*", "http://git.lan/tools/app"),
        ("git://git.lan/tools/*", "git://git.lan/tools/app"),
        ("/srv/git/**", "/srv/git/team/app.git"),
        ("/srv/git/**", "file:///srv/git/app"),
        ("github.com/acme/x+y", "https://github.com/acme/x%2By"),
    ],
)
def test_a_repository_that_a_pattern_means_is_allowed(pattern: str, address: str) -> None:
    assert _matches(pattern, address)


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        # The host is compared in whole.
        ("github.com/acme/*", "https://github.com.evil.example/acme/app"),
        ("github.com/acme/*", "https://evilgithub.com/acme/app"),
        ("github.com/acme/*", "https://evil.example/github.com/acme/app"),
        ("github.com/acme/*", "https://github.com./acme/app"),
        ("github.com/acme/*", "https://xn--github-.com/acme/app"),
        ("github.com/acme/*", "https://githubXcom/acme/app"),
        ("*.example.org/**", "https://example.org/a"),
        ("*.example.org/**", "https://evilexample.org/a"),
        ("*.example.org/**", "https://.example.org/a"),
        # What comes before an @ is no host.
        ("github.com/acme/*", "https://github.com@evil.example/acme/app"),
        ("github.com/acme/*", "https://github.com:x@evil.example/acme/app"),
        ("github.com/acme/*", "https://evil.example\\@github.com/acme/app"),
        ("github.com/acme/*", "https://evil.example#@github.com/acme/app"),
        ("github.com/acme/*", "https://evil.example?@github.com/acme/app"),
        ("github.com/acme/*", "ssh://github.com/acme@evil.example:acme/app"),
        ("github.com/acme/*", "github.com/acme@evil.example:acme/app"),
        ("github.com/acme/*", "git@github.com@evil.example:acme/app"),
        ("github.com/acme/*", "git@evil.example:github.com/acme/app"),
        ("github.com/acme/*", "https://user:secret@github.com/acme/app"),
        # The path cannot leave what the pattern means.
        ("github.com/acme/*", "https://github.com/acme/../evil/app"),
        ("github.com/acme/**", "https://github.com/acme/../evil/app"),
        ("github.com/acme/**", "https://github.com/acme/%2e%2e/evil/app"),
        ("github.com/acme/**", "https://github.com/acme/%2E./evil/app"),
        ("github.com/acme/*", "https://github.com/acme/a%2Fb"),
        ("github.com/acme/*", "https://github.com/acme/a%00b"),
        ("github.com/acme/*", "https://github.com/acme/a%5cb"),
        ("github.com/acme/*", "https://github.com/acme//app"),
        ("github.com/acme/*", "https://github.com//acme/app"),
        ("github.com/acme/*", "https://github.com/acme/"),
        ("github.com/acme/*", "https://github.com/acme"),
        ("github.com/acme/*", "https://github.com/acme/.git"),
        ("github.com/acme/*", "https://github.com/acme/group/app"),
        ("github.com/acme/*", "https://github.com/acme-evil/app"),
        ("github.com/acme/*", "https://github.com/evil/acme/app"),
        ("github.com/acme/app", "https://github.com/acme/apps"),
        ("github.com/acme/app", "https://github.com/ACME/app"),
        ("github.com/acme/*", "https://github.com/acme/app?x=1"),
        ("github.com/acme/*", "https://github.com/acme/app#x"),
        ("github.com/acme/*", "https://github.com/acme/app\n"),
        ("github.com/acme/*", "https://github.com/acme/a b"),
        # Scheme and port.
        ("github.com/acme/*", "http://github.com/acme/app"),
        ("github.com/acme/*", "git://github.com/acme/app"),
        ("https://github.com/acme/*", "git@github.com:acme/app"),
        ("https://github.com/acme/*", "HTTPS://github.com/acme/app"),
        ("github.com/acme/*", "https://github.com:8443/acme/app"),
        ("github.com/acme/*", "ssh://github.com:443/acme/app"),
        ("github.com/acme/*", "https://github.com:/acme/app"),
        ("git.example.org:8443/a", "https://git.example.org/a"),
        # Paths of the machine.
        ("/srv/git/**", "/srv/git/../secret"),
        ("/srv/git/**", "/srv/git"),
        ("/srv/git/**", "/srv/gitx/app"),
        ("/srv/git/**", "//srv/git/app"),
        ("/srv/git/**", "file://srv/git/app"),
        ("/srv/git/**", "file://host/srv/git/app"),
        ("/srv/git/**", "https://example.org/srv/git/app"),
        ("github.com/acme/*", "/github.com/acme/app"),
        ("github.com/acme/*", "ext::sh -c x github.com/acme/app"),
        ("github.com/acme/*", "[::1]:acme/app"),
        ("github.com/acme/*", "github.com::acme/app"),
        ("github.com/acme/*", ""),
    ],
)
def test_an_address_that_only_looks_like_an_allowed_one_is_refused(pattern: str, address: str) -> None:
    assert not _matches(pattern, address)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "github.com", "github.com/", "*/acme", "**", "*.*/x", "git*.com/x", "https://", "ftp://host/x"),
        *("user@host/x", "host/a//b", "host/../x", "host/a b", "host/x?y", "host:port/x", "/", "relative", "a\\b/c"),
    ],
)
def test_a_text_that_is_no_pattern_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a pattern such as github\.com/acme/\*"):
        RepositoryPattern.parse(text)


def test_without_patterns_every_repository_is_allowed() -> None:
    assert repository_is_allowed("http://anything/x", [])
    assert not repository_is_allowed("http://anything/x", [RepositoryPattern.parse("a.org/b")])


@given(st.text(alphabet="gh.com/acme@:\\%2e#?x ", max_size=30))
def test_what_a_pattern_allows_has_the_host_that_git_would_ask(rest: str) -> None:
    address = f"https://{rest}"
    if _matches("gh.com/acme/**", address):
        assert urlsplit(address).hostname == "gh.com"
        assert urlsplit(address).path.startswith("/acme/")


def test_an_agent_fetches_only_what_its_patterns_allow(
    agent: AgentProcess, plane: FakeControlPlane, history: History, tmp_path: Path
) -> None:
    other = tmp_path / "other.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", history.path, other], check=True)
    refused = plane.add_job(f"file://{other}", run="true")
    allowed = plane.add_job(history.url, run="true")
    agent.start("--allow-repository=github.com/acme/*", f"--allow-repository={history.path.parent}/**")
    report = plane.finished(refused)
    assert report["exit_code"] is None
    assert report["error_message"] == (
        "Agent tester may not fetch this repository (--allow-repository). Give the pipeline a label of agents that may."
    )
    assert plane.finished(allowed)["exit_code"] == 0


def test_an_agent_does_not_start_with_an_invalid_pattern(agent: AgentProcess) -> None:
    assert agent.start("--allow-repository=github.com").exit_code() == 2
    eventually(lambda: "argument --allow-repository: 'github.com' must be a pattern such as" in agent.output)
