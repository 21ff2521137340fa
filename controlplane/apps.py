"""The project itself as a Django application, which registers the checks of the settings."""

from django.apps import AppConfig


class ControlPlaneConfig(AppConfig):
    name = "controlplane"

    def ready(self) -> None:
        """Importing the checks registers them."""
        from controlplane import checks  # noqa: F401
