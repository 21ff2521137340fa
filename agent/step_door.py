"""The way from a step to its agent: a command such as ``agent.pyz upload`` writes a request to a folder of the job.

The name of a request begins with its verb, and the agent writes the answer beside it. A folder, and no socket: it works
for other users, in containers and at any length of its path. Steps may put anything into it, so the agent follows no
link there, reads no more than a request of the verb may have, and replaces nothing.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent.files import read_regular
from agent.job_outputs import VARIABLE

_REQUEST = re.compile(r"([a-z]+)-[0-9a-f]{16}\.request")
_ANSWER_SUFFIX = ".answer"
_POLL_SECONDS = 0.3
# A job that asks for more at once is not served further.
_MOST_AT_ONCE = 20
# Gets the text of a request, and returns an exit code and what the command prints.
Serve = Callable[[str], tuple[int, str]]


@dataclass(frozen=True)
class Verb:
    """What steps may ask for. The name has lower-case letters only.

    A request has at most `most` bytes. Of a longer one the agent reads one byte more, which shows that it has more.
    """

    name: str
    most: int


# A value that is masked from then on.
MASK = Verb("mask", 32 * 1024 + 2)
# The audience of an identity token.
TOKEN = Verb("token", 1024)
# A pipeline file whose jobs are added to the run.
UPLOAD = Verb("upload", 512 * 1024)


class StepDoor:
    """Answers the requests in the folder from a thread, between `open` and `close`."""

    def __init__(self, folder: Path, verbs: Mapping[Verb, Serve]) -> None:
        """`verbs` has the functions that serve them. Files of other verbs are left alone."""
        self._folder = folder
        self._verbs = {verb.name: (verb, serve) for verb, serve in verbs.items()}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"requests from {folder}", daemon=True)

    def open(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more. What is being answered ends first."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            with suppress(OSError):
                self._look()

    def _look(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry, _ in zip(entries, range(1000)) if self._verb(entry.name)]
            for name in sorted(names)[:_MOST_AT_ONCE]:
                self._answer_one(folder, name)
        finally:
            os.close(folder)

    def _answer_one(self, folder: int, name: str) -> None:
        verb, serve = self._verbs[self._verb(name)]
        text = _take(folder, name, verb.most + 1)
        if text is not None and not self._closed.is_set():
            code, printed = serve(text)
            _answer(folder, name, {"exit_code": code, "text": printed})

    def _verb(self, name: str) -> str:
        """The verb of a request. Empty if the file is no request that this agent knows."""
        match = _REQUEST.fullmatch(name)
        return match[1] if match and match[1] in self._verbs else ""


def _take(folder: int, name: str, most: int) -> Optional[str]:
    """The text of a request, which is removed. None if it is none."""
    try:
        data = read_regular(name, most, folder=folder)
        return None if data is None else data.decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _answer(folder: int, name: str, document: dict[str, Any]) -> None:
    unfinished = f".{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(unfinished, flags, 0o644, dir_fd=folder), "wb") as file:
        # Whatever the umask is: the step's user reads it.
        os.fchmod(file.fileno(), 0o644)
        file.write(json.dumps(document).encode())
    os.rename(unfinished, f"{name}{_ANSWER_SUFFIX}", src_dir_fd=folder, dst_dir_fd=folder)


def door_of_step() -> Optional[Path]:
    """From a step: the folder for its requests. None if this process belongs to no step of a job."""
    place = os.environ.get(VARIABLE)
    return Path(place).parent if place and Path(place).parent.is_dir() else None


def ask(folder: Path, verb: Verb, text: str, *, patience: float) -> tuple[int, str]:
    """From a step: hand the text to the agent. Returns the exit code and what to print.

    Raises TimeoutError if the agent does not answer for `patience` seconds, OSError, and ValueError or KeyError if the
    answer is none.
    """
    name = f"{verb.name}-{secrets.token_hex(8)}.request"
    unfinished = folder / f".{name}"
    unfinished.write_bytes(text.encode())
    unfinished.replace(folder / name)
    answer = folder / f"{name}{_ANSWER_SUFFIX}"
    until = time.monotonic() + patience
    while not answer.exists():
        if time.monotonic() > until:
            with suppress(OSError):
                (folder / name).unlink()
            raise TimeoutError
        time.sleep(0.1)
    document = json.loads(answer.read_bytes())
    answer.unlink()
    return int(document["exit_code"]), str(document["text"])
