"""Content types without a table: Django's own cache of them is filled at start, so that none is ever looked up."""

import zlib

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models

from controlplane.nosql.facade import Facade


def content_types_seed() -> None:
    """Make the content types of all facades known. Called again, it adds those of facades that came later."""
    for model in apps.get_models():
        if issubclass(model, Facade):
            _seed(model)


def _seed(model: type[models.Model]) -> None:
    """The number is made of the name, so that all processes have the same one."""
    label, name = model._meta.app_label, str(model._meta.model_name)
    number = zlib.crc32(f"{label}.{name}".encode())
    ContentType.objects._add_to_cache("default", ContentType(id=number, app_label=label, model=name))  # type: ignore[attr-defined]
