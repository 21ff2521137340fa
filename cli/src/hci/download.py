"""Fetches artifacts: goes on where an earlier download ended, and keeps only what has the right SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from hci import endpoints
from hci.client import Client, Json, text
from hci.errors import BadAnswer, HciError, Unreachable, UsageProblem

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ENDINGS = {"application/x-tar+gzip": ".tar.gz", "application/x-tar+zstd": ".tar.zst"}
_SHA256 = re.compile("[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
# A download that is cut off goes on so many times while it gets further.
_TRIES = 5


def filename(artifact: Json) -> str:
    """A name of safe characters: of the job, of the artifact, and of its kind. It names no other folder."""
    names = dict.fromkeys(_UNSAFE.sub("-", str(artifact.get(part) or "")).strip(".-") for part in ("node", "name"))
    return ("-".join(filter(None, names)) or "artifact")[:150] + _ENDINGS.get(str(artifact.get("media")), ".tar")


def filenames(artifacts: Iterable[Json]) -> list[tuple[Json, str]]:
    """Each artifact with a name of its own."""
    used: dict[str, int] = {}
    found = []
    for artifact in artifacts:
        name = filename(artifact)
        used[name] = used.get(name, 0) + 1
        found.append((artifact, name if used[name] == 1 else f"{used[name]}-{name}"))
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits. Raises HciError."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Download:
    """An artifact on its way into a folder."""

    client: Client
    artifact: Json
    target: Path

    def fetch(self) -> bool:
        """Fetch it, unless it is there already. Returns whether it was fetched. Raises HciError."""
        wanted = text(self.artifact, "sha256")
        size = self.artifact.get("size")
        if not _SHA256.fullmatch(wanted) or not isinstance(size, int):
            raise BadAnswer("The control plane does not say which SHA-256 and size the artifact has.")
        if self.target.is_file() and sha256_of(self.target) == wanted:
            return False
        part = self.target.with_name(f"{self.target.name}.{wanted[:12]}.part")
        try:
            self._get(part, size)
            found = sha256_of(part)
            if found != wanted:
                part.unlink()
                raise HciError(f"{self.target.name} has another SHA-256 than announced, {found}. It is deleted.")
            part.replace(self.target)
        except OSError as error:
            raise HciError(f"{part} cannot be written: {error.strerror}.") from error
        return True

    def _get(self, part: Path, size: int) -> None:
        """Fetch what is missing of the part, in as many requests as it takes. Raises HciError."""
        fruitless = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            if have > size:
                part.unlink()
                have = 0
            if have == size and part.exists():
                return
            try:
                self._go_on(part, have, size)
            except Unreachable:
                fruitless = 0 if part.exists() and part.stat().st_size > have else fruitless + 1
                if fruitless >= _TRIES:
                    raise

    def _go_on(self, part: Path, have: int, size: int) -> None:
        artifact_id = text(self.artifact, "artifact_id")
        answer = self.client.call(endpoints.ARTIFACT_DOWNLOAD, redirects=True, artifact_id=artifact_id)
        if answer.status != 302:
            raise HciError("The control plane does not say where the artifact is.")
        url = urljoin(f"{self.client.server}/", answer.headers["Location"])
        if not url.startswith(("https://", "http://")):
            raise HciError("The control plane names no address for the download.")
        with self.client.stream(url, headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"}) as response:
            if response.status_code not in (200, 206):
                raise Unreachable(f"The download answers with the status {response.status_code}.")
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            goes_on = response.status_code == 206 and found is not None and int(found[1]) == have
            left = size - have if goes_on else size
            with part.open("ab" if goes_on else "wb") as opened:
                for block in response.iter_raw():
                    left -= len(block)
                    if left < 0:
                        raise HciError("The download is longer than the control plane announced.")
                    opened.write(block)
        if left > 0:
            raise Unreachable("The download was cut off.")


def folder_make(folder: Path) -> Path:
    """The folder for downloads, which is made. Raises UsageProblem."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageProblem(f"{folder} cannot be made: {error.strerror}.") from error
    return Path(os.path.realpath(folder))
