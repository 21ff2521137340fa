"""Template tags that are imported when a template loads them, and not when the first page of any kind is rendered."""

from importlib import import_module
from typing import Any


class LazyLibrary:
    """What Django asks of a ``django.template.Library``, from a module of ``django.contrib.admin.templatetags``."""

    def __init__(self, name: str) -> None:
        self._module = f"django.contrib.admin.templatetags.{name}"

    @property
    def tags(self) -> dict[str, Any]:
        return dict(import_module(self._module).register.tags)

    @property
    def filters(self) -> dict[str, Any]:
        return dict(import_module(self._module).register.filters)
