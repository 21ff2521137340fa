"""Fetch the submodules of a checked-out commit.

Their addresses come from the commit, so from everyone who can push. Each is checked before git sees it: by the rules
for the pipeline's own address, and by the agent's patterns. A repository from elsewhere cannot make the agent read
repositories on its own machine, which its steps perhaps cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from agent.checkout import (
    SETTINGS,
    CheckoutFailed,
    Tools,
    check_url,
    lfs_is_missing,
    lfs_options,
    url_without_credentials,
)

# Submodules of submodules, and so on.
MAX_DEPTH = 10

_URL = re.compile(r"submodule\.(?P<name>.*)\.url\n(?P<url>.*)", re.DOTALL)
_PATH = re.compile(r"submodule\..*\.path\n(?P<path>.*)", re.DOTALL)


def submodules_fetch(*, url: str, workspace: Path, tools: Tools, is_allowed: Callable[[str], bool]) -> int:
    """Fetch the submodules of the checkout of `url` in the workspace, and theirs. Returns how many there are.

    `is_allowed` says whether the agent may fetch an address. Raises CheckoutFailed, and what `tools.git` raises.
    """
    local = _is_local(url)

    def check(address: str) -> None:
        check_url(address)
        shown = url_without_credentials(address)
        if _is_local(address) and not local:
            raise CheckoutFailed(f"The submodule {shown} is a path on the agent's machine. Use a URL.")
        if not is_allowed(address):
            raise CheckoutFailed(f"This agent may not fetch the submodule {shown} (--allow-repository).")

    root = workspace.resolve()
    count = 0
    folders = [root]
    for _ in range(MAX_DEPTH):
        folders = [inner for folder in folders for inner in _level(folder, root, tools, check)]
        count += len(folders)
        if not folders:
            return count
    raise CheckoutFailed(f"The submodules are nested more than {MAX_DEPTH} deep.")


def _level(folder: Path, root: Path, tools: Tools, check: Callable[[str], None]) -> list[Path]:
    """Fetch the submodules of the repository in `folder`. Returns their folders."""
    modules = folder / ".gitmodules"
    if modules.is_symlink() or not modules.is_file():
        return []

    def git(*arguments: str) -> str:
        code, text = _run(tools, folder, *arguments)
        if code != 0:
            raise CheckoutFailed(text)
        return text

    git("submodule", "--quiet", "init")
    found = _run(tools, folder, "config", "--null", "--local", "--get-regexp", r"^submodule\..*\.url$")[1]
    for entry in filter(None, found.split("\0")):
        match = _URL.fullmatch(entry)
        if match is not None:
            check(match["url"])
    update = ("submodule", "--quiet", "update", "--checkout")
    if _run(tools, folder, *update, "--depth=1")[0] != 0:
        # A server may refuse to send a commit by its id, but it sends all branches and tags.
        git(*update)
    paths = _run(tools, folder, "config", "--null", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")[
        1
    ]
    inner = [_PATH.fullmatch(entry) for entry in filter(None, paths.split("\0"))]
    return [path for path in ((folder / match["path"]).resolve() for match in inner if match) if _is_in(path, root)]


def _run(tools: Tools, folder: Path, *arguments: str) -> tuple[int, str]:
    code, output = tools.git(["-C", str(folder), *SETTINGS, *lfs_options(tools), *arguments])
    text = output.decode(errors="replace")
    if code == 0:
        return code, text
    return code, lfs_is_missing(tools, text) or text.strip() or f"git {arguments[0]} ended with exit code {code}"


def _is_local(url: str) -> bool:
    return url.startswith(("/", "file://"))


def _is_in(path: Path, root: Path) -> bool:
    """Whether the submodule is in the workspace and was fetched. A link could lead out of it."""
    return root in path.parents and (path / ".git").exists()
