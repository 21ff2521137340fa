"""`python -m tests.emulator_process`: ministack with one more address, CLEAR_PATH.

A POST there deletes the items of all tables. It costs one call, and finds what other processes have written as well.
"""

from collections import defaultdict
from typing import Any

import ministack.app
from ministack.services import dynamodb

from tests.emulator import CLEAR_PATH

_ministack = ministack.app.app


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") != CLEAR_PATH:
        await _ministack(scope, receive, send)
        return
    with dynamodb._lock:
        for table in dynamodb._tables.all_values():
            if table["items"]:
                table["items"] = defaultdict(dict)
                dynamodb._items_replaced(table)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    ministack.app.app = _application
    ministack.app.main()
