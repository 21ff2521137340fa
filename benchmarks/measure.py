"""One Lambda process: imports a package's handler, answers events, and prints the costs as JSON.

`lambda_comparison` runs it with a bare interpreter, so that only the package can be imported. It imports little of the
standard library, because modules that it has imported are not counted.
"""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Read package, module and events by name from standard input. The first event is the cold one."""
    task = json.loads(sys.stdin.read())
    sys.path.insert(0, task["package"])
    started, worked = time.perf_counter(), time.process_time()
    handler = __import__(task["module"], fromlist=["handler"]).handler
    first, *_ = task["events"].values()
    answer_require(handler(first[0], None))
    result: dict[str, Any] = {
        "cold_wall_ms": (time.perf_counter() - started) * 1000,
        "cold_cpu_ms": (time.process_time() - worked) * 1000,
        "warm_cpu_us": {},
    }
    first.pop(0)
    for name, events in task["events"].items():
        # Not counted: the imports of the first event of its kind.
        warming, counted = events[:5], events[5:]
        for event in warming:
            answer_require(handler(event, None))
        worked = time.process_time()
        for event in counted:
            answer_require(handler(event, None))
        if counted:
            result["warm_cpu_us"][name] = (time.process_time() - worked) / len(counted) * 1e6
    print(json.dumps(result))


def answer_require(answer: dict[str, Any]) -> None:
    """Fail for an error response, because errors are fast."""
    if answer["statusCode"] != 200:
        raise SystemExit(f"the answer is {answer}")


main()
