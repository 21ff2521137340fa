"""The list of pipelines."""

from django.http import HttpRequest, HttpResponse

from apps.accounts.policies import Permission
from apps.dashboard.pages import page, show
from apps.pipelines.selectors import pipeline_list


@page(Permission.PIPELINES_READ)
def pipeline_list_page(request: HttpRequest) -> HttpResponse:
    """Pipelines by name."""
    cursor = request.GET.get("cursor") or None
    return show(
        request,
        "pipelines",
        {"section": "pipelines", "found": pipeline_list(limit=50, cursor=cursor), "cursor": cursor},
    )
