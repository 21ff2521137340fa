"""The control plane's own address."""

from django.conf import settings
from django.http import HttpRequest


def public_url(request: HttpRequest) -> str:
    """The address without a slash at the end: PUBLIC_URL, or else that of the request, a gateway's stage included."""
    return settings.PUBLIC_URL or request.build_absolute_uri(request.META.get("SCRIPT_NAME") or "/").rstrip("/")
