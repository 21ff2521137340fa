"""Refs and addresses: nothing that a shell or git could take for something else is let in."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.pipelines.refs import ref_validate, repository_allowed_require, repository_validate
from controlplane.lib.errors import InvalidInput

COMMIT = "2ec479c1f0e1d2c3b4a5968778695a4b3c2d1e0f"


@pytest.mark.parametrize(
    "ref",
    [
        *("main", "v1.0", "feature/login", "refs/heads/main", COMMIT, "user@host", "a#1", "release-2026+1", "_x"),
        "x" * 255,
        *(
            "é",
            "функция/ünïcode",
            "ветка",
            "分支/功能",
            "فرع",
            "e\u0301t\u0301",
            "v1-🚀",
            "🚀",
            "👩\u200d💻-desk",
            "x/₂" * 60,
        ),
    ],
)
def test_a_branch_tag_or_commit_is_a_ref(ref: str) -> None:
    assert ref_validate(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "-main",
        "--upload-pack=touch /tmp/x",
        "main; rm -rf /",
        "$(id)",
        "`id`",
        "a|b",
        "a&b",
        "a>b",
        "a b",
        "a\nb",
        "main\n",
        "a\x00b",
        "a'b",
        'a"b',
        "a\\b",
        "a*",
        "a?",
        "a[b",
        "a~1",
        "a^",
        "a:b",
        "../etc",
        "a..b",
        "a//b",
        "a@{1}",
        "a/",
        "a.",
        "a.lock",
        "a.lock/b",
        "a./b",
        "a/.b",
        "/a",
        ".a",
        "@",
        "x" * 256,
        "é" * 256,
        *(
            "a\u00a0b",
            "a\u2003b",
            "a\u2028b",
            "a\u200bb",
            "a\u202eb",
            "a\u2066b",
            "a\u00adb",
            "a\ue000",
            "a\ud800",
            "a\x85b",
        ),
        *("\u0301a", "\u200da", "\ufeffmain", "a\ufffd", "é~1", "é:b", "é b", "é/.b", "é..b", "é.lock"),
    ],
)
def test_another_text_is_no_ref(ref: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ref_validate(ref, field="default_ref")
    assert caught.value.code == "invalid_ref"
    assert [error["field"] for error in caught.value.errors] == ["default_ref"]


@settings(deadline=None)
@given(st.text(alphabet="ab.-_/@{}+#~^: lockéя🚀\u0301\u200d\u202e", max_size=12))
def test_git_accepts_every_ref_that_we_do(ref: str) -> None:
    try:
        ref_validate(ref)
    except InvalidInput:
        return
    asked = subprocess.run(["git", "check-ref-format", f"refs/heads/{ref}"], check=False)
    assert asked.returncode == 0


@pytest.mark.parametrize(
    "repository",
    [
        "https://example.org/team/project.git",
        "https://example.org:8443/project",
        "http://127.0.0.1:3000/a.git",
        "https://[::1]/a.git",
        "ssh://git@example.org/team/project.git",
        "ssh://git@example.org:2222/~user/project",
        "git://example.org/project",
        "git@example.org:team/project.git",
        "example.org:project.git",
        "file:///srv/git/project.git",
        "/srv/git/project.git",
        "/srv/my%20project",
        "/" + "x" * 2047,
    ],
)
def test_an_address_that_git_knows_is_a_repository(repository: str) -> None:
    assert repository_validate(repository) == repository


@pytest.mark.parametrize(
    "repository",
    [
        "",
        "-c",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "fd::17",
        "transport::address",
        "ext://x",
        "ftp://example.org/a",
        "javascript://x",
        "HTTPS",
        "relative/path",
        "./here",
        "project",
        "C:\\project",
        "https://example.org/a b",
        "https://example.org/a\n",
        "https://example.org/\x00",
        "/srv/a\tb",
        "https:///no-host",
        "https://",
        "https://example.org:port/a",
        "https://[::1/a",
        "ssh://-oProxyCommand=touch/a",
        "ssh://-oProxyCommand=x@example.org/a",
        "-oProxyCommand=x:a",
        "git@-oProxyCommand=x:a",
        "git@example.org:-a",
        "file://project",
        "\ud800",
        "/" + "x" * 2048,
    ],
)
def test_another_text_is_no_repository(repository: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        repository_validate(repository)
    assert caught.value.code == "invalid_repository"
    assert [error["field"] for error in caught.value.errors] == ["repository"]


@pytest.mark.parametrize(
    "repository",
    [
        "https://user:secret@example.org/a",
        "https://ghp_secret@example.org/a",
        "ssh://git:secret@example.org/a",
        "https://example.org/a?private_token=secret",
        "https://example.org/a#secret",
    ],
)
def test_a_secret_in_an_address_is_refused_without_being_repeated(repository: str) -> None:
    with pytest.raises(InvalidInput, match="credentials") as caught:
        repository_validate(repository)
    assert "secret" not in caught.value.message


def test_only_allowed_repositories_pass(settings: Any) -> None:
    repository_allowed_require("https://anything.example/x")
    settings.ALLOWED_REPOSITORIES = ["github.com/acme/*", " /srv/git/** "]
    repository_allowed_require("git@github.com:acme/app.git")
    repository_allowed_require("file:///srv/git/app")
    with pytest.raises(InvalidInput) as caught:
        repository_allowed_require("https://github.com.evil.example/acme/app")
    assert caught.value.code == "repository_not_allowed"
    (error,) = caught.value.errors
    assert error["field"] == "repository"
    assert error["message"].endswith("the setting ALLOWED_REPOSITORIES allows: github.com/acme/*, /srv/git/**")


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        repository_validate(text)
        assert Path(text).is_absolute() or ":" in text
    except InvalidInput:
        pass
