"""The installed app that provides the templates and static files of Django's admin without its database tables."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from django import contrib
from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register


class RecordAdminConfig(AppConfig):
    """Replaces ``django.contrib.admin`` in INSTALLED_APPS.

    Django's own app imports the admin pages of every app at start and needs a table for its log. This app uses the same
    directory, so that Django finds its templates, static files and widgets. The first request for a page imports it.
    """

    name = "controlplane.nosql.admin"
    label = "record_admin"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # The directory is found without importing the app.
        self.path = str(Path(contrib.__path__[0]) / "admin")

    def ready(self) -> None:
        """Create the content types of all facades and register the system checks of the admin."""
        from controlplane.nosql.admin.content_types import content_types_seed

        content_types_seed()
        register(_admin_check, Tags.admin)


def _admin_check(app_configs: Any = None, **_options: Any) -> list[CheckMessage]:
    """Check every admin page. ``manage.py`` and tests run this; a server never does."""
    from django.urls import Resolver404, get_resolver

    from controlplane.nosql.admin.site import site

    # Resolving an address imports the pages. A test may use other URLs, which have no admin.
    with suppress(Resolver404):
        get_resolver().resolve("/admin/")
    return list(site.check(app_configs))
