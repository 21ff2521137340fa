"""The project itself as a Django application, and Django's own applications without what only SQL needs."""

from typing import Any

from django.apps import AppConfig
from django.core.cache import close_caches
from django.core.checks import CheckMessage, Tags, register
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries


class ControlPlaneConfig(AppConfig):
    """Registers the checks of the settings, and connects apps that do not know each other."""

    name = "controlplane"
    default = True

    def ready(self) -> None:
        from apps.pipelines.connections import connections_find_by
        from controlplane import checks  # noqa: F401 — importing the checks registers them

        connections_find_by(_connection_exists)

        # A request leaves nothing to close: there is no SQL, and the cache is in memory. Looking for it took a
        # twentieth of a short request.
        request_started.disconnect(reset_queries)
        request_started.disconnect(close_old_connections)
        request_finished.disconnect(close_old_connections)
        request_finished.disconnect(close_caches)


def _connection_exists(connection_id: str) -> bool:
    from apps.sources.selectors import connection_find

    return connection_find(connection_id) is not None


class AuthConfig(AppConfig):
    """Django's users, with its checks of them.

    Django's own configuration imports its migrations at each start, to make rows for permissions.
    """

    name = "django.contrib.auth"
    label = "auth"

    def ready(self) -> None:
        register(_auth_check, Tags.models)


class ContentTypesConfig(AppConfig):
    """Django's content types. They have no table: `controlplane.nosql.admin.content_types` makes them."""

    name = "django.contrib.contenttypes"
    label = "contenttypes"


def _auth_check(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Django's checks of the user model. ``manage.py`` and tests run this; a server never does."""
    from django.contrib.auth.checks import check_models_permissions, check_user_model

    return [*check_user_model(app_configs, **options), *check_models_permissions(app_configs, **options)]
