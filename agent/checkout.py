"""Fetch exactly one ref of a git repository into an empty folder.

git can take neither the URL nor the ref for an option: both are checked first, the URL is written to the repository's
configuration file while git needs it, and the ref is looked up and then named in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlsplit

PROTOCOLS = ("file", "git", "http", "https", "ssh")
# Variables that git gets in addition to the environment of every command.
GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    "LC_ALL": "C",
}

# Runs git with these arguments in the workspace; returns the exit code and what it printed.
Git = Callable[[list[str]], "tuple[int, bytes]"]

_REMOTE = "origin"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHORT_OBJECT_ID = re.compile(r"[0-9a-f]{7,63}")
_REF_CHARACTERS = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]{1,250}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+://)(?P<userinfo>[^/?#]*)@")
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
_SCP_LIKE = re.compile(r"(?!-)([^@/:\s]+@(?!-))?[^@/:\s]+:(?!:)\S+")
_ADVERTISED = re.compile(r"^([0-9a-f]{40,64})\t(\S+)$", re.MULTILINE)
_SETTINGS = [
    argument
    for setting in (
        "advice.detachedHead=false",
        "gc.auto=0",
        "maintenance.auto=false",
        "core.hooksPath=/dev/null",
        # Over HTTP, git gives up a connection that brings no data for two minutes.
        "http.lowSpeedLimit=1",
        "http.lowSpeedTime=120",
    )
    for argument in ("-c", setting)
]


class CheckoutFailed(Exception):
    """git could not fetch the ref. The message says why and holds no credentials."""


@dataclass(frozen=True)
class Checkout:
    """What was checked out: the commit's id, and what the ref is: a branch, tag, commit or other ref."""

    commit: str
    kind: str


def checkout(*, url: str, ref: str, workspace: Path, git: Git) -> Checkout:
    """Fetch `ref` (branch, tag or commit id) of `url`, as shallow as the server allows, and check it out, detached.

    A name that is both a branch and a tag means the branch. Raises CheckoutFailed, and what `git` raises.
    """
    _check_url(url)
    _check_ref(ref)
    session = _Session(url, workspace, git)
    session.run("init", "--quiet", "--template=", ".")
    session.set_remote(url)
    try:
        kind = session.fetch(ref)
        session.run("checkout", "--quiet", "--force", "--detach", f"{session.fetched}^{{commit}}", "--")
    finally:
        # Steps can read the repository's configuration, so no credentials may stay in it.
        session.set_remote(url_without_credentials(url))
        (workspace / ".git" / "FETCH_HEAD").unlink(missing_ok=True)
    return Checkout(commit=session.resolve("HEAD"), kind=kind)


def url_without_credentials(url: str) -> str:
    """The URL without user name and password, fit for logs. Only ssh keeps the user name, which is no secret there."""
    found = _USERINFO.match(url)
    if found is None:
        return url
    user = found["userinfo"].partition(":")[0]
    return found["scheme"] + (f"{user}@" if found["scheme"] == "ssh://" else "") + url[found.end() :]


class _Session:
    def __init__(self, url: str, workspace: Path, git: Git) -> None:
        self._url = url
        self._config = workspace / ".git" / "config"
        self._initial: Optional[str] = None
        self._git = git
        self.fetched = "FETCH_HEAD"

    def set_remote(self, url: str) -> None:
        """Write the remote to the configuration file. Other users could read it on a command line."""
        if not self._config.exists():
            return
        if self._initial is None:
            self._initial = self._config.read_text()
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        self._config.write_text(f'{self._initial}[remote "{_REMOTE}"]\n\turl = "{quoted}"\n')

    def run(self, *arguments: str) -> str:
        code, text = self._try(*arguments)
        if code != 0:
            raise CheckoutFailed(text.strip() or f"git {arguments[0]} ended with exit code {code}")
        return text

    def fetch(self, ref: str) -> str:
        """Fetch the ref's commit. Returns the kind of ref. Raises CheckoutFailed."""
        if _OBJECT_ID.fullmatch(ref):
            if self._fetch_shallow(ref)[0] != 0:
                # A server may refuse to send a commit by its id, but it sends all branches and tags.
                self._fetch_all(ref)
            return "commit"
        names = [ref] if ref == "HEAD" or ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        advertised = {name for _, name in _ADVERTISED.findall(self.run("ls-remote", "--", _REMOTE, *names))}
        for name in names:
            if name in advertised:
                code, text = self._fetch_shallow(name)
                if code != 0:
                    raise CheckoutFailed(text.strip())
                return {"refs/heads/": "branch", "refs/tags/": "tag"}.get(name[: name.find("/", 5) + 1], "ref")
        if not _SHORT_OBJECT_ID.fullmatch(ref):
            raise CheckoutFailed(f"The repository has no branch, tag or commit {ref!r}.")
        self._fetch_all(ref)
        return "commit"

    def resolve(self, name: str) -> str:
        found = re.search(r"^([0-9a-f]{40,64})$", self.run("rev-parse", "--verify", f"{name}^{{commit}}"), re.MULTILINE)
        if found is None:
            raise CheckoutFailed(f"git did not print the commit id of {name}.")
        return found.group(1)

    def _fetch_shallow(self, name: str) -> tuple[int, str]:
        return self._try("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", _REMOTE, name)

    def _fetch_all(self, object_id: str) -> None:
        everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        self.run("fetch", "--quiet", "--no-recurse-submodules", "--", _REMOTE, *everything)
        code, _ = self._try("rev-parse", "--verify", "--quiet", f"{object_id}^{{commit}}")
        if code != 0:
            raise CheckoutFailed(f"The repository has no branch, tag or commit {object_id!r}.")
        self.fetched = object_id

    def _try(self, *arguments: str) -> tuple[int, str]:
        code, output = self._git([*_SETTINGS, *arguments])
        return code, _without_credentials(output.decode(errors="replace"), self._url)


def _without_credentials(text: str, url: str) -> str:
    """What git printed, without the credentials of the URL."""
    found = _USERINFO.match(url)
    if found is None:
        return text
    text = text.replace(url, url_without_credentials(url))
    user, _, password = found["userinfo"].partition(":")
    if password or found["scheme"] != "ssh://":
        secret = password or user
        for form in filter(None, (secret, unquote(secret))):
            text = text.replace(form, "***")
    return text


def _check_url(url: str) -> None:
    shown = url_without_credentials(url)
    if not url or url.startswith("-") or _CONTROL.search(url) or _HELPER.match(url):
        raise CheckoutFailed(f"{shown!r} is not a valid address of a repository.")
    scheme, separator, _ = url.partition("://")
    if separator:
        if scheme not in PROTOCOLS:
            raise CheckoutFailed(f"{shown!r} has an unsupported protocol. Use one of {', '.join(PROTOCOLS)}.")
        try:
            host = urlsplit(url).hostname or ""
        except ValueError as error:
            raise CheckoutFailed(f"The address of the repository is malformed: {error}.") from error
        if host.startswith("-"):
            raise CheckoutFailed(f"{shown!r} is not a valid address of a repository.")
    elif not url.startswith("/") and not _SCP_LIKE.fullmatch(url):
        raise CheckoutFailed(
            f"{shown!r} is neither a URL nor an absolute path. Use one of them as the repository's address."
        )


def _check_ref(ref: str) -> None:
    """The rules of `git check-ref-format`, and no leading dash."""
    parts = ref.split("/")
    if (
        not _REF_CHARACTERS.fullmatch(ref)
        or ref.startswith("-")
        or ref == "@"
        or ".." in ref
        or "@{" in ref
        or ref.endswith(".")
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    ):
        raise CheckoutFailed(f"{ref!r} is not a valid name of a branch, tag or commit.")
