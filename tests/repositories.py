"""Git repositories for tests. `git fast-import` writes them: one process, where to commit and push a file takes ten."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

# What a commit has at a path: a file's content, where a symbolic link points to, or the commit of a submodule.
Entry = bytes | Path | str

_WHO = "Test <test@example.org> 1700000000 +0000"


class BareRepository:
    """A bare repository whose default branch is `main`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        init = ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main"]
        subprocess.run([*init, str(path)], check=True)

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def commit(self, branch: str, entries: Mapping[str, Entry], *, on: str | None = None) -> str:
        """Make the branch a new commit, which changes these entries of the commit `on`. Returns its id."""
        return self.write(commit_stream(branch, entries, on=on), b"get-mark :1\n")[0]

    def write(self, *stream: bytes) -> list[str]:
        """Pass the commands to fast-import. Returns the lines that it answers."""
        command = ["git", "-C", str(self.path), "fast-import", "--quiet", "--force"]
        done = subprocess.run(command, input=b"".join(stream), stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().split()


def commit_stream(branch: str, entries: Mapping[str, Entry], *, on: str | None, mark: int = 1) -> bytes:
    """The commands for a commit, to which later ones refer as `:mark`."""
    stream = [f"commit refs/heads/{branch}\nmark :{mark}\ncommitter {_WHO}\n".encode(), _data(b"a commit")]
    if on is not None:
        stream.append(f"from {on}\n".encode())
    for path, entry in entries.items():
        if isinstance(entry, str):
            stream.append(f"M 160000 {entry} {path}\n".encode())
        elif isinstance(entry, Path):
            stream += [f"M 120000 inline {path}\n".encode(), _data(str(entry).encode())]
        else:
            stream += [f"M 100644 inline {path}\n".encode(), _data(entry)]
    return b"".join(stream)


def tag_stream(name: str, of: str) -> bytes:
    """The commands for an annotated tag."""
    return f"tag {name}\nfrom {of}\ntagger {_WHO}\n".encode() + _data(b"a tag")


def ref_stream(ref: str, of: str) -> bytes:
    """The commands for a branch or a tag without a message."""
    return f"reset {ref}\nfrom {of}\n\n".encode()


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
