"""What Django's admin has for templates and static files, without the admin itself."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from django import contrib
from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register


class RecordAdminConfig(AppConfig):
    """Stands in for ``django.contrib.admin`` among the installed apps.

    Installing that one looks for every app's pages at start, and wants a table for its log. This one has its directory,
    so that its templates, static files and widgets are found; the pages are imported by the first request for one.
    """

    name = "controlplane.nosql.admin"
    label = "record_admin"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # Found without importing it.
        self.path = str(Path(contrib.__path__[0]) / "admin")

    def ready(self) -> None:
        """At start every facade gets its content type, and the checks of the admin are made known."""
        from controlplane.nosql.admin.content_types import content_types_seed

        content_types_seed()
        register(_admin_check, Tags.admin)


def _admin_check(app_configs: Any = None, **_options: Any) -> list[CheckMessage]:
    """The checks of every admin page; run by ``manage.py`` and in tests, never by a server."""
    from django.urls import Resolver404, get_resolver

    from controlplane.nosql.admin.site import site

    # Reading the URLs is what makes the pages known; a test may serve others.
    with suppress(Resolver404):
        get_resolver().resolve("/admin/")
    return list(site.check(app_configs))
