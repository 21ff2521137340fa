"""Fetch exactly one ref of a git repository into an empty folder.

git can take neither the URL nor the ref for an option: both are checked first, the URL is written to the repository's
configuration file while git needs it, and the ref is looked up and then named in full.

What a job needs comes from the agent's mirror of the repository where that is possible. A repository whose URL contains
credentials gets none: it would give every pipeline what only those with the credentials may read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlsplit

from agent.mirror import Git, Mirror, Mirrors, MirrorUnusable

logger = logging.getLogger(__name__)

PROTOCOLS = ("file", "git", "http", "https", "ssh")
# Variables that git gets in addition to the environment of every command.
GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    "LC_ALL": "C",
}

_REMOTE = "origin"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHORT_OBJECT_ID = re.compile(r"[0-9a-f]{7,63}")
_REF_CHARACTERS = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]{1,255}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]+://)(?P<userinfo>[^/?#]*)@")
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
_SCP_LIKE = re.compile(r"(?!-)([^@/:\s]+@(?!-))?[^@/:\s]+:(?!:)\S+")
_ADVERTISED = re.compile(r"^([0-9a-f]{40}(?:[0-9a-f]{24})?)\t(\S+)$", re.MULTILINE)
_SHALLOW = ("--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1")
_LFS_MISSING = "smudge filter lfs failed"
_LFS_FILE = re.compile(r"^fatal: (.*): smudge filter lfs failed", re.MULTILINE)


def _options(*settings: str) -> list[str]:
    return [argument for setting in settings for argument in ("-c", setting)]


SETTINGS = _options(
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.hooksPath=/dev/null",
    # A pack that arrives stays a pack: to unpack it means to compress each object again.
    "fetch.unpackLimit=1",
    # A workspace does not outlive its job, and a damaged mirror is replaced: neither needs to reach the disk.
    "core.fsync=none",
    # Over HTTP, git gives up a connection that brings no data for two minutes.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=120",
)
_LFS = _options(
    "filter.lfs.smudge=git-lfs smudge -- %f",
    "filter.lfs.clean=git-lfs clean -- %f",
    "filter.lfs.process=git-lfs filter-process",
    "filter.lfs.required=true",
)
# Without git-lfs a checkout must fail where it meets a file of LFS: a build with pointers in place of files is worse.
_NO_LFS = _options("filter.lfs.smudge=false", "filter.lfs.process=", "filter.lfs.required=true")


class CheckoutFailed(Exception):
    """git could not fetch the ref. The message says why and contains no credentials."""


@dataclass(frozen=True)
class Checkout:
    """What was checked out: the commit's id, and what the ref is: a branch, tag, commit or other ref."""

    commit: str
    kind: str


@dataclass(frozen=True)
class Tools:
    """What a checkout uses: `git` runs git in the workspace, `has_lfs` says whether git-lfs is installed.

    While another job fetches from the same repository, `waiting` is called several times a second; it may raise. Jobs
    with another `realm` have their own mirrors, since they may read other repositories.
    """

    git: Git
    mirrors: Optional[Mirrors] = None
    has_lfs: bool = False
    waiting: Callable[[], None] = lambda: None
    realm: str = ""


def lfs_options(tools: Tools) -> list[str]:
    """The options of git for files of Git LFS."""
    return _LFS if tools.has_lfs else _NO_LFS


def lfs_is_missing(tools: Tools, printed: str) -> Optional[str]:
    """The sentence that git failed because git-lfs is not installed; None if it is not that. `printed` is git's."""
    if tools.has_lfs or _LFS_MISSING not in printed:
        return None
    file = _LFS_FILE.search(printed)
    return (
        f"The repository keeps {file[1] if file else 'files'} in Git LFS, and git-lfs is not installed on this "
        "agent's machine. Install git-lfs there, or give the pipeline a label of agents that have it."
    )


def checkout(*, url: str, ref: str, workspace: Path, tools: Tools) -> Checkout:
    """Fetch `ref` (branch, tag or commit id) of `url`, as shallow as the server allows, and check it out, detached.

    A name that is both a branch and a tag means the branch. Raises CheckoutFailed, and what `tools.git` raises.
    """
    check_url(url)
    _check_ref(ref)
    session = _Session(url, workspace, tools)
    session.run("init", "--quiet", "--template=", ".")
    session.set_remote(url)
    try:
        kind = session.fetch(ref)
        session.check_out(ref)
    finally:
        # Steps can read the repository's configuration, so no credentials may stay in it.
        session.set_remote(url_without_credentials(url))
        (workspace / ".git" / "FETCH_HEAD").unlink(missing_ok=True)
    return Checkout(commit=session.commit(), kind=kind)


def url_without_credentials(url: str) -> str:
    """The URL without user name and password, fit for logs. Only ssh keeps the user name, which is no secret there."""
    found = _USERINFO.match(url)
    if found is None:
        return url
    user = found["userinfo"].partition(":")[0]
    return found["scheme"] + (f"{user}@" if found["scheme"] == "ssh://" else "") + url[found.end() :]


class _Session:
    def __init__(self, url: str, workspace: Path, tools: Tools) -> None:
        self._url = url
        self._git_dir = workspace / ".git"
        self._initial: Optional[str] = None
        self._tools = tools
        self._fetched = "FETCH_HEAD"
        # The mirror that the workspace has its objects from, and how often it was thrown away before.
        self._mirror: Optional[Mirror] = None
        self._generation = 0
        self._mirror_failed = False

    def set_remote(self, url: str) -> None:
        """Write the remote to the configuration file. Other users could read it on a command line."""
        config = self._git_dir / "config"
        if not config.exists():
            return
        if self._initial is None:
            self._initial = config.read_text()
        quoted = url.replace("\\", "\\\\").replace('"', '\\"')
        config.write_text(f'{self._initial}[remote "{_REMOTE}"]\n\turl = "{quoted}"\n')

    def run(self, *arguments: str) -> str:
        code, text = self._try(*arguments)
        if code != 0:
            raise CheckoutFailed(text.strip() or f"git {arguments[0]} ended with exit code {code}")
        return text

    def fetch(self, ref: str) -> str:
        """Fetch the ref's commit. Returns the kind of ref. Raises CheckoutFailed."""
        if _OBJECT_ID.fullmatch(ref):
            if not self._copy_from_mirror(ref, ref) and self._fetch_shallow(ref)[0] != 0:
                # A server may refuse to send a commit by its id, but it sends all branches and tags.
                self._fetch_all(ref)
            return "commit"
        names = [ref] if ref == "HEAD" or ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        found = _ADVERTISED.findall(self.run("ls-remote", "--", _REMOTE, *names))
        advertised = {name: object_id for object_id, name in found}
        for name in names:
            if name in advertised:
                if not self._copy_from_mirror(name, advertised[name]):
                    code, text = self._fetch_shallow(name)
                    if code != 0:
                        raise CheckoutFailed(text.strip())
                return {"refs/heads/": "branch", "refs/tags/": "tag"}.get(name[: name.find("/", 5) + 1], "ref")
        if not _SHORT_OBJECT_ID.fullmatch(ref):
            raise CheckoutFailed(f"The repository has no branch, tag or commit {ref!r}.")
        self._fetch_all(ref)
        return "commit"

    def check_out(self, ref: str) -> None:
        """Write the files of `ref`, which was fetched. Raises CheckoutFailed."""
        code, text = self._check_out()
        if code != 0 and self._mirror is not None and not lfs_is_missing(self._tools, text):
            self._discard_mirror(text)
            self.fetch(ref)
            code, text = self._check_out()
        if code == 0:
            return
        raise CheckoutFailed(
            lfs_is_missing(self._tools, text) or text.strip() or f"git checkout ended with exit code {code}"
        )

    def commit(self) -> str:
        """The id of the commit that is checked out. Raises CheckoutFailed."""
        head = (self._git_dir / "HEAD").read_text().strip()
        if not _OBJECT_ID.fullmatch(head):
            raise CheckoutFailed("git did not check out a commit.")
        return head

    def _check_out(self) -> tuple[int, str]:
        code, text = self._try(
            *lfs_options(self._tools),
            *("checkout", "--quiet", "--force", "--detach", f"{self._fetched}^{{commit}}", "--"),
        )
        if code == 0 and self._mirror is not None:
            # The mirror has the commit without its parents, as after a shallow fetch.
            (self._git_dir / "shallow").write_text(f"{self.commit()}\n")
        return code, text

    def _copy_from_mirror(self, name: str, object_id: str) -> bool:
        """Copy the commit or tag from the agent's mirror. Returns whether the workspace has it now."""
        mirrors = self._tools.mirrors
        if mirrors is None or self._mirror_failed or url_without_credentials(self._url) != self._url:
            return False
        with mirrors.use(self._url, realm=self._tools.realm) as mirror:
            self._mirror, self._generation = mirror, mirror.generation
            known = mirror.has(object_id)
            waiting = self._tools.waiting
            try:
                if known or mirror.fetch(self._run_git, name, object_id, waiting=waiting):
                    mirror.copy_to(self._git_dir, self._run_git, waiting=waiting)
                    self._fetched = object_id
                else:
                    self._mirror = None
            except MirrorUnusable as error:
                self._discard_mirror(str(error))
        if not known:
            mirrors.shrink()
        return self._mirror is not None

    def _discard_mirror(self, reason: str) -> None:
        """Throw the mirror away, and use none for the rest of this job."""
        if self._mirror is not None:
            logger.warning("the agent throws the damaged mirror %s away: %s", self._mirror.path, reason.strip())
            self._mirror.discard(self._generation)
        self._mirror, self._mirror_failed, self._fetched = None, True, "FETCH_HEAD"
        for copied in (self._git_dir / "objects" / "pack").iterdir():
            copied.unlink()

    def _fetch_shallow(self, name: str) -> tuple[int, str]:
        return self._try("fetch", *_SHALLOW, "--", _REMOTE, name)

    def _fetch_all(self, object_id: str) -> None:
        everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        self.run("fetch", "--quiet", "--no-recurse-submodules", "--", _REMOTE, *everything)
        code, _ = self._try("rev-parse", "--verify", "--quiet", f"{object_id}^{{commit}}")
        if code != 0:
            raise CheckoutFailed(f"The repository has no branch, tag or commit {object_id!r}.")
        self._fetched = object_id

    def _try(self, *arguments: str) -> tuple[int, str]:
        code, output = self._run_git(list(arguments))
        return code, _without_credentials(output.decode(errors="replace"), self._url)

    def _run_git(self, arguments: list[str]) -> tuple[int, bytes]:
        return self._tools.git([*SETTINGS, *arguments])


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


def check_url(url: str) -> None:
    """Raises CheckoutFailed unless git takes the text for the address of a repository, and for nothing else."""
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
