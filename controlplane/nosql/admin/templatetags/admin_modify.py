"""Django's own tags of this name."""

from django.contrib.admin.templatetags.admin_modify import register

__all__ = ["register"]
