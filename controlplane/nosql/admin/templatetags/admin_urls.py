"""Django's own tags of this name."""

from controlplane.nosql.admin.libraries import LazyLibrary

register = LazyLibrary("admin_urls")
