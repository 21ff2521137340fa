"""Django's own tags of this name."""

from django.contrib.admin.templatetags.admin_list import register

__all__ = ["register"]
