"""Checkouts that depend on the server, and addresses and refs that are refused before git runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.checkout import GIT_ENVIRONMENT, CheckoutFailed, Tools, checkout, url_without_credentials
from agent.mirror import Git
from tests.agent.conftest import History


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a workspace and keeps its arguments in `commands`."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    # In the old protocol, a server sends only commits that it advertises.
    (home / ".gitconfig").write_text("[protocol]\n\tversion = 0\n")

    def run(arguments: list[str]) -> tuple[int, bytes]:
        commands.append(arguments)
        result = subprocess.run(
            ["git", *arguments],
            cwd=workspace,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **GIT_ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return result.returncode, result.stdout

    commands: list[list[str]] = []
    run.commands = commands  # type: ignore[attr-defined]
    return run


def test_a_commit_that_the_server_does_not_send_by_its_id_is_found_in_the_whole_history(
    git: Git, tmp_path: Path
) -> None:
    history = History(tmp_path / "history")
    # Now no branch or tag points to the first commit.
    subprocess.run(["git", "update-ref", "-d", "refs/heads/both"], cwd=history.path, check=True)
    done = checkout(url=history.url, ref=history.commits[0], workspace=tmp_path / "workspace", tools=Tools(git))
    assert done.commit == history.commits[0]
    assert (tmp_path / "workspace" / "number").read_text() == "1\n"
    fetches = [command for command in git.commands if "fetch" in command]  # type: ignore[attr-defined]
    assert any("+refs/heads/*:refs/remotes/origin/*" in command for command in fetches)


def test_the_workspace_has_no_credentials(git: Git, tmp_path: Path, history: History) -> None:
    # git ignores the host of a file URL.
    url = f"file://robot:secret@localhost{history.path}"
    checkout(url=url, ref="main", workspace=tmp_path / "workspace", tools=Tools(git))
    kept = (tmp_path / "workspace" / ".git").rglob("*")
    assert not any(b"secret" in path.read_bytes() for path in kept if path.is_file())
    assert git(["config", "--get", "remote.origin.url"]) == (0, f"file://localhost{history.path}\n".encode())
    assert not any("secret" in argument for command in git.commands for argument in command)  # type: ignore[attr-defined]


def test_an_address_with_quotes_cannot_add_git_configuration(git: Git, tmp_path: Path) -> None:
    url = f'{tmp_path}/x"; [core] sshCommand = touch {tmp_path}/mark #\\'
    with pytest.raises(CheckoutFailed):
        checkout(url=url, ref="main", workspace=tmp_path / "workspace", tools=Tools(git))
    assert not (tmp_path / "mark").exists()
    shown = git(["config", "--get", "remote.origin.url"])
    assert shown == (0, url.encode() + b"\n")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/path",
        "-oProxyCommand=x:y",
        "user@-oProxyCommand=x:y",
        "ssh://-oProxyCommand=x/y",
        "ext::sh -c x",
        "fd::17",
        "ftp://example.org/x",
        "https://example.org/\nx",
        "javascript://x",
        "https://[x",
    ],
)
def test_an_invalid_address_is_refused_before_git_runs(url: str, tmp_path: Path) -> None:
    def git(arguments: list[str]) -> tuple[int, bytes]:
        raise AssertionError(arguments)

    with pytest.raises(CheckoutFailed):
        checkout(url=url, ref="main", workspace=tmp_path, tools=Tools(git))


@pytest.mark.parametrize(
    "ref",
    [
        *("", "-x", "--all", "a b", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\nb", "@", "a@{1}"),
        *("/a", "a/", "a//b", "a.lock", ".a", "a/.b", "a.", "+a b", "x" * 256, "\x7f"),
    ],
)
def test_an_invalid_ref_is_refused_before_git_runs(ref: str, tmp_path: Path) -> None:
    def git(arguments: list[str]) -> tuple[int, bytes]:
        raise AssertionError(arguments)

    with pytest.raises(CheckoutFailed, match="is not a valid name of a branch, tag or commit"):
        checkout(url="/repository", ref=ref, workspace=tmp_path, tools=Tools(git))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:password@example.org:8443/x.git", "https://example.org:8443/x.git"),
        ("https://token@example.org/x.git", "https://example.org/x.git"),
        ("ssh://git:password@example.org/x.git", "ssh://git@example.org/x.git"),
        ("ssh://git@example.org/x.git", "ssh://git@example.org/x.git"),
        ("git@example.org:x.git", "git@example.org:x.git"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("/srv/x.git", "/srv/x.git"),
    ],
)
def test_an_address_is_shown_without_its_credentials(url: str, shown: str) -> None:
    assert url_without_credentials(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://robot:p%40ss%2Fword@127.0.0.1:1/x.git",
        # Only a token.
        "https://p%40ss%2Fword@127.0.0.1:1/x.git",
        "ssh://git:p%40ss%2Fword@127.0.0.1:1/x.git",
    ],
)
@pytest.mark.parametrize(
    "printed", ["p%40ss%2Fword", "p@ss/word", "fatal: could not read from {url}", "p%40ss%2Fword and p@ss/word"]
)
def test_what_git_prints_shows_a_password_neither_encoded_nor_decoded(url: str, printed: str, tmp_path: Path) -> None:
    def git(arguments: list[str]) -> tuple[int, bytes]:
        return 128, f"fatal: {printed.format(url=url)}!".encode()

    with pytest.raises(CheckoutFailed) as failure:
        checkout(url=url, ref="main", workspace=tmp_path, tools=Tools(git))
    shown = str(failure.value)
    assert shown.startswith("fatal: ")
    assert shown.endswith("!")
    for secret in ("p%40ss", "p@ss", "word"):
        assert secret not in shown


def test_a_user_name_of_ssh_without_a_password_is_no_secret(tmp_path: Path) -> None:
    def git(arguments: list[str]) -> tuple[int, bytes]:
        return 128, b"git@example.org: Permission denied (publickey)."

    with pytest.raises(CheckoutFailed, match=r"git@example.org: Permission denied \(publickey\)\."):
        checkout(url="ssh://git@example.org/x.git", ref="main", workspace=tmp_path, tools=Tools(git))
