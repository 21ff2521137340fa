"""Packages whose modules are imported with the first use of one of their names (PEP 562).

A cold start needs few of the services and selectors, and each module that it imports delays it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of `package`, which has so many names of each of its modules.

    No name may be that of a module of the package: importing that module would replace it.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        # Python asks only for what the package does not have.
        setattr(sys.modules[package], name, found)
        return found

    return getattribute
