"""Writes each call to AWS of a Python program into the file that AWS_CALLS_FILE names, as `service:Operation`.

Python imports this module when it starts, if its folder is on PYTHONPATH. botocore is imported only by programs that
call AWS, so it is changed when it is imported.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "botocore.client":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_record(module: ModuleType) -> None:
            execute(module)
            _record(module.__dict__["BaseClient"])

        loader.exec_module = execute_and_record
        return spec


def _record(client: Any) -> None:
    call = client._make_api_call

    def recorded(self: Any, operation: str, arguments: Any) -> Any:
        # One short write to a file that is opened for appending: programs that run at once do not mix their lines.
        with open(os.environ["AWS_CALLS_FILE"], "a") as file:  # noqa: PTH123 — every program would import pathlib
            file.write(f"{self.meta.service_model.service_name}:{operation}\n")
        return call(self, operation, arguments)

    client._make_api_call = recorded


if "AWS_CALLS_FILE" in os.environ:
    sys.meta_path.insert(0, _Finder())
