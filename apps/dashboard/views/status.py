"""The page that says how the control plane is."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.accounts.policies import Permission
from apps.dashboard.pages import page, show
from apps.jobs.selectors.status import overall, status_components

# Where a user looks next.
_PAGES = {
    "Agents": "dashboard:agents",
    "Queue": "dashboard:jobs",
}


@page(Permission.JOBS_READ)
def status_page(request: HttpRequest) -> HttpResponse:
    """How each part of the control plane is."""
    components = status_components()
    context = {
        "section": "status",
        "health": overall(components),
        "components": [(component, _PAGES.get(component.name)) for component in components],
        "version": settings.VERSION,
        "stage": settings.STAGE,
    }
    return show(request, "status", context)
