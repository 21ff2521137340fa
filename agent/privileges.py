"""Become another user for good, without any way back. Guards import this module, so it imports only what is cheap."""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# The version of the structures that capset takes, and the size of its second one: two sets of three 32-bit masks.
_CAPABILITY_VERSION = 0x20080522
_CAPABILITY_WORDS = 6


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Make this process that of the user `uid`, with these groups alone. Raises OSError if it may not.

    On Linux, neither capabilities nor programs such as sudo give the process and its children more rights again.
    """
    os.setgroups(list(groups))
    os.setgid(gid)
    os.setuid(uid)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        # This takes away those that programs would inherit, too.
        _check(libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * _CAPABILITY_WORDS)()))
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def keep_capabilities_from_programs() -> None:
    """Make programs that this process starts from now on plain ones of its user, if it has capabilities by itself.

    An agent that has capabilities instead of being root would pass them on to git otherwise.
    """
    if sys.platform == "linux":
        # A kernel that does not know these capabilities passes none on.
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def forbid_inspection() -> None:
    """Forbid other processes of this user to read this process's memory and open files (Linux only), until an exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def forbid_core_dumps() -> None:
    """Let neither this process nor a program that it starts leave its memory on a disk when it crashes."""
    # Only processes with secrets need it.
    import resource

    # The kernel runs a program such as systemd-coredump whatever the limit is, unless it is one byte.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused to take away capabilities")
