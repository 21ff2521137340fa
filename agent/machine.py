"""This machine: which one it is, and which failures are its own instead of a job's."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Optional

# The control plane takes so many characters of a fault.
FAULT_CHARACTERS = 500

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Whatever a job does, these are about the disk, the memory or the limits of the machine.
_ERRNOS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO),
        *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
    }
)
# What git prints about them comes last in a line. A server's own words begin with "remote:".
_STRERRORS = "|".join(re.escape(os.strerror(number)) for number in sorted(_ERRNOS))
_MACHINE_IN_GIT = re.compile(
    rf"^(?!remote:).*(?:: (?:{_STRERRORS})|Out of memory, \w+ failed.*|unable to find remote helper for '\w+'"
    r"|cannot (?:run|exec) '?\S*ssh'?: .*|cannot start \S*git: .*)\.?$",
    re.MULTILINE,
)
_UNRESOLVED = re.compile(
    r"^(?!remote:).*(?:Could not resolve host|Temporary failure in name resolution|unable to look up ).*", re.MULTILINE
)


class MachineFailed(Exception):
    """A failure of this machine ended the attempt: another machine may run the job. The message says what failed."""


def is_machine_failure(error: BaseException) -> bool:
    """Whether the error is the machine's, whatever the job did: no disk, no memory, too many processes or files."""
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


def git_fault(printed: str, *, control_plane_resolves: Callable[[], bool]) -> Optional[str]:
    """The line of git's output that shows a failure of this machine. None if it is the repository's or the server's.

    A host that has no address is most likely misspelt in the pipeline, and other machines would not find it either. It
    is this machine's failure only if the control plane's host has none at the moment, too.
    """
    found = _MACHINE_IN_GIT.search(printed)
    if found is None:
        found = _UNRESOLVED.search(printed)
        if found is None or control_plane_resolves():
            return None
        return f"name resolution fails on this machine, also for the control plane ({found.group(0)[:200]})"
    return found.group(0)[:FAULT_CHARACTERS]


def resolves(host: str) -> bool:
    """Whether the host has an address."""
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def any_resolves(hosts: list[str]) -> bool:
    """Whether one of the hosts has an address. IP addresses show nothing about name resolution, if there are names."""
    return any(map(resolves, [host for host in hosts if not _is_ip_address(host)] or hosts))


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def git_path(search_path: Optional[str]) -> str:
    """The path of git. Raises MachineFailed."""
    found = shutil.which("git", path=search_path)
    if found is None:
        raise MachineFailed("git is not on the PATH")
    return found


def boot_id() -> Optional[str]:
    """A text that differs between machines and between two starts of this machine. None if the system has none."""
    try:
        return _BOOT_ID.read_text().strip()[:64] or None
    except OSError:
        pass
    try:
        # macOS
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        printed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return printed.decode(errors="replace").strip()[:64] or None


def hostname() -> Optional[str]:
    """The name of this machine, fit for a heartbeat."""
    name = "".join(character if character.isprintable() else "?" for character in socket.gethostname())
    return name[:255] or None
