"""With what one attempt fetches its repository: credentials that the control plane gives it, for git alone.

They come encrypted to the key of the attempt, as its secrets do. git gets them by its environment, from a credential
helper that answers for the repository's server alone: neither another server that it is sent on to, nor one that the
commit names for its submodules or its large files, gets them. A command line, the repository's settings and logs never
have them. A private key is a file for as long as git needs it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from agent.hpke import CannotOpen
from agent.job_ends import JobFailed
from agent.job_secrets import AttemptKey

# What a message is for is part of its encryption, so secrets cannot be taken for this.
PURPOSE = b"hybrid-ci fetch"

_USER, _PASSWORD = "HYBRID_CI_FETCH_USER", "HYBRID_CI_FETCH_PASSWORD"
# A shell's own printf starts no process whose command line has the values.
_HELPER = f'!f() {{ test "$1" = get && printf \'username=%s\\npassword=%s\\n\' "${_USER}" "${_PASSWORD}"; }}; f'
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class FetchAccess:
    """Credentials for fetching: either `username` and `password` for addresses below `url`, or an SSH `private_key`.

    Jobs with the same `realm` may fetch the same repositories, so they share mirrors; it is no secret.
    """

    url: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    realm: str = ""

    @property
    def values(self) -> list[str]:
        """What no log may show."""
        # Of a key, each line is worth hiding, too. The last one may be so short that it occurs in any text.
        lines = [line for line in self.private_key.splitlines() if len(line) >= 16 and not line.startswith("-----")]
        return [value for value in (self.password, self.private_key, *lines) if value]

    def options(self) -> list[str]:
        """The options of git. They have no secret."""
        if not self.password:
            return []
        # The first one forgets the machine's own helpers, which would store what they see.
        key = f"credential.{self.url}.helper"
        return ["-c", f"{key}=", "-c", f"{key}={_HELPER}"]

    def environment(self, env: Mapping[str, str], key_file: Optional[Path]) -> dict[str, str]:
        """`env` of git with the credentials. `key_file` has the private key."""
        if self.password:
            return {**env, _USER: self.username, _PASSWORD: self.password}
        if key_file is None:
            return dict(env)
        ssh = env.get("GIT_SSH_COMMAND") or shlex.quote(env.get("GIT_SSH") or "ssh")
        options = "-o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes"
        return {**env, "GIT_SSH_COMMAND": f"{ssh} -i {shlex.quote(str(key_file))} {options}"}


NO_ACCESS = FetchAccess()


def fetch_access(
    encrypted: Optional[str], key: AttemptKey, *, repository: str, agent_id: str, job: tuple[str, int]
) -> FetchAccess:
    """What the control plane has sent for fetching the repository. `job` has its id and the attempt. Raises JobFailed.

    Without anything, git uses what the machine has.
    """
    if encrypted is None:
        return NO_ACCESS
    try:
        document = key.document(encrypted, purpose=PURPOSE, agent_id=agent_id, job_id=job[0], attempt=job[1])
        access = _access(document)
    except (CannotOpen, ValueError, KeyError, TypeError):
        raise JobFailed(
            "The agent cannot open the credentials for fetching the repository. Run the job again. If it fails again, "
            "something between the control plane and the agent changes what they send, or the agent is too old."
        ) from None
    if access.password and not _is_below(repository, access.url):
        raise JobFailed(f"The credentials of this job are for {access.url}, and its repository is elsewhere.")
    return access


def _access(document: dict[str, Any]) -> FetchAccess:
    """Raises ValueError and its like."""
    texts = {name: str(document.get(name) or "") for name in ("url", "username", "password", "private_key", "realm")}
    access = FetchAccess(**texts)
    if bool(access.password) == bool(access.private_key):
        raise ValueError("neither a password nor a private key, or both")
    # A line break would end what git reads from the helper.
    if _CONTROL.search(access.username + access.password + access.url):
        raise ValueError("a control character")
    parts = urlsplit(access.url)
    is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if access.password and not (parts.hostname and (parts.scheme == "https" or is_local)):
        raise ValueError("the address is not one of https")
    return access


def _is_below(repository: str, url: str) -> bool:
    """Whether the repository is at the address or below it."""
    return repository == url or repository.startswith(f"{url.rstrip('/')}/")
