"""Content types without a table: Django's cache of them is filled at start, so that Django never queries for one."""

import zlib

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models

from controlplane.nosql.facade import Facade


def content_types_seed() -> None:
    """Add the content types of all facades to the cache. A later call adds the facades declared since."""
    for model in apps.get_models():
        if issubclass(model, Facade):
            _seed(model)


def _seed(model: type[models.Model]) -> None:
    """Add one content type. Its id is computed from its name, so all processes use the same id."""
    label, name = model._meta.app_label, str(model._meta.model_name)
    number = zlib.crc32(f"{label}.{name}".encode())
    ContentType.objects._add_to_cache("default", ContentType(id=number, app_label=label, model=name))  # type: ignore[attr-defined]
