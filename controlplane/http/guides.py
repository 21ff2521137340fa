"""Where pages that explain how to use the control plane have moved to."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_safe


@require_safe
def other_ci(_: HttpRequest) -> HttpResponse:
    """What to write instead of the files of other products: the guide has it. Messages of agents name this path."""
    return redirect("guide_page", name="coming-from")
