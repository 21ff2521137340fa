"""Ends the processes of a `manage.py local` that was killed.

It reads `+STAGE PID` and `-STAGE PID` lines from standard input, a pipe whose other end only `local` holds. When the
pipe ends, so has `local`, and what it has not ended is ended here. The watchdog also holds the lock of the state
directory, so that the next `local` waits for it.
"""

import os
import signal
import sys

from controlplane.local.ending import Stage, processes_end


def main() -> None:
    # Whoever wants this process to end ends `local`.
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
        # The number is somebody else's by now.
        return False
    return True


if __name__ == "__main__":
    main()
