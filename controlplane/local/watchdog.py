"""Ends the processes of a `manage.py local` that was killed.

It reads the lines `+STAGE PID` and `-STAGE PID` from standard input, a pipe whose other end only `local` has open. At
the end of the pipe, `local` has ended, and the watchdog ends the remaining processes. It also holds the lock of the
state directory, so that the next `local` waits for it.
"""

import os
import signal
import sys

from controlplane.local.ending import Stage, processes_end


def main() -> None:
    # Ends only with `local`, whatever signal it gets.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes: set[tuple[Stage, int]] = set()
    for line in sys.stdin:
        stage, pid = line[1:].split()
        process = (Stage(int(stage)), int(pid))
        if line.startswith("+"):
            processes.add(process)
        else:
            processes.discard(process)
    processes_end(processes, _running)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The process id belongs to another user's process now.
        return False
    return True


if __name__ == "__main__":
    main()
