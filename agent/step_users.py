"""The users that steps run as, if the agent may start processes of other users.

A step of another user can read neither the agent's key nor its spool, and cannot signal the agent or a guard. Jobs that
run at the same time have different users, so they cannot read or signal each other either.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent import processes
from agent.errors import UsageError
from agent.privileges import become

# How long the agent tries to kill processes; one in an uninterruptible call may never end.
_KILL_LIMIT_SECONDS = 10.0

_MAY_NOT_SWITCH, _CANNOT_ENTER, _CAN_READ_STATE, _FITS = 10, 11, 12, 0


@dataclass(frozen=True)
class StepUser:
    """A user, with the number of its main group and of all its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def find(cls, name: str) -> StepUser:
        """The user with this name or number. A number without an account has the group of that number.

        Raises UsageError if there is no such user, and for root and the agent's own user.
        """
        try:
            account = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
            groups = os.getgrouplist(account.pw_name, account.pw_gid)
            user = cls(account.pw_name, account.pw_uid, account.pw_gid, tuple(groups))
        except KeyError:
            if not name.isdigit():
                raise UsageError(f"This machine has no user {name!r}. Create it, or correct --step-user.") from None
            user = cls(name, int(name), int(name), (int(name),))
        if user.uid in (0, os.geteuid()):
            raise UsageError(f"--step-user must name users other than root and the agent's own, not {name!r}.")
        return user

    def environment(self) -> dict[str, str]:
        """The variables that name the user."""
        return {"USER": self.name, "LOGNAME": self.name}

    def processes(self) -> list[int]:
        """The numbers of all processes of this user."""
        return [pid for pid in processes.process_table() if processes.owner(pid) == self.uid]

    def kill_processes(self) -> None:
        """Kill all processes of this user. The kernel kills them at once, so none can escape by forking."""
        deadline = time.monotonic() + _KILL_LIMIT_SECONDS
        while self.processes() and time.monotonic() < deadline:
            # To a process of the user, -1 means: all processes of the user, except for itself.
            subprocess.run(
                ["/bin/sh", "-c", "kill -9 -1"],
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            time.sleep(0.01)


class StepUsers:
    """Gives each running job a user of its own. Without any users, steps run as the agent's own user."""

    def __init__(self, users: Sequence[StepUser]) -> None:
        self._lock = threading.Lock()
        self._free = list(users)
        # How many jobs can run at once; 0 means any number of jobs that run as the agent's own user.
        self.count = len(users)

    @classmethod
    def find(cls, names: Sequence[str]) -> StepUsers:
        """The users with these names. Raises UsageError if they are not fit for steps."""
        users = [StepUser.find(name) for name in names]
        if len({user.uid for user in users}) < len(users):
            raise UsageError("--step-user must name each user once.")
        return cls(users)

    def check(self, *, work_dir: Path, state_dir: Path) -> None:
        """Raises UsageError if steps of a user could not run, could read the agent's state, or would share the user.

        Must be called before the agent starts threads.
        """
        for user in self._free:
            result = _try_as(user, work_dir, state_dir)
            if result == _MAY_NOT_SWITCH:
                raise UsageError(
                    f"The agent may not start processes as user {user.name}. Start it as root or with the capabilities "
                    "that docs/security.md lists, or start it without --step-user."
                )
            if result == _CANNOT_ENTER:
                raise UsageError(
                    f"User {user.name} cannot enter {work_dir}. With --step-user, give --work-dir a folder below "
                    "folders that all users can enter, such as /var/lib/hybrid-ci-work."
                )
            if result != _FITS:
                raise UsageError(f"User {user.name} can read the state directory {state_dir}. Run chmod 700 on it.")
            strangers = user.processes()
            if strangers:
                raise UsageError(
                    f"User {user.name} already runs processes ({', '.join(map(str, strangers[:10]))}). The agent kills "
                    "all processes of a step user after each job: end them, or give --step-user a user of its own."
                )

    def take(self) -> Optional[StepUser]:
        """A user that no running job has, or None for the agent's own user.

        Raises AssertionError if more jobs run than there are users.
        """
        if self.count == 0:
            return None
        with self._lock:
            if not self._free:
                raise AssertionError("more jobs run than there are step users")
            return self._free.pop(0)

    def give_back(self, user: Optional[StepUser]) -> None:
        """Make the user free for the next job. Its processes must have ended."""
        if user is not None:
            with self._lock:
                self._free.append(user)


def _try_as(user: StepUser, work_dir: Path, state_dir: Path) -> int:
    """Try in a process of the user what steps need and what they must not be able to do."""
    child = os.fork()
    if child == 0:
        result = _MAY_NOT_SWITCH
        try:
            become(user.uid, user.gid, user.groups)
            result = _CANNOT_ENTER
            os.chdir(work_dir)
            result = _CAN_READ_STATE
            (state_dir / "lock").stat()
        except OSError:
            result = _FITS if result == _CAN_READ_STATE else result
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
