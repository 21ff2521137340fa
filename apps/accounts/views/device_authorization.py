"""The page on which a user allows a program, such as ``hci``, to act for them."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.accounts.authentication import page_permission, request_actor
from apps.accounts.forms import DeviceCodeForm
from apps.accounts.policies import Permission
from apps.accounts.selectors.device_authorizations import device_authorization_find
from apps.accounts.services.device_authorizations import (
    TOKEN_LIFETIME,
    device_authorization_decide,
    device_code_unknown,
)
from apps.accounts.services.rate_limits import device_code_failure_count
from controlplane.lib.errors import ApplicationError

_ALLOW, _DENY = "allow", "deny"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def device(request: HttpRequest) -> HttpResponse:
    """Ask for the code, show which program asks for what, and take the decision.

    A link may fill the code in. Only the form can decide, which another site cannot send.
    """
    form = DeviceCodeForm(request.POST if request.method == "POST" else {"code": request.GET.get("code", "")})
    if request.method != "POST" and "code" not in request.GET:
        return render(request, "accounts/device.html", {"form": DeviceCodeForm()})
    try:
        return _answer(request, form)
    except ApplicationError as error:
        if error.status >= 500:
            raise
        form.add_error("code", error.message)
    return render(request, "accounts/device.html", {"form": form}, status=422)


def _answer(request: HttpRequest, form: DeviceCodeForm) -> HttpResponse:
    """Raises ApplicationError for a code that is not open."""
    actor = request_actor(request)
    found = device_authorization_find(form.cleaned_data["code"]) if form.is_valid() else None
    if found is None:
        if form.is_valid():
            device_code_failure_count(user_id=actor.id)
        raise device_code_unknown()
    decision = request.POST.get("decision")
    if decision not in (_ALLOW, _DENY):
        context = {"authorization": found, "code": form.cleaned_data["code"], "days": TOKEN_LIFETIME.days}
        return render(request, "accounts/device_decide.html", context)
    device_authorization_decide(authorization=found, is_allowed=decision == _ALLOW, actor=actor)
    if decision == _ALLOW:
        messages.success(request, f"“{found.name}” may act for you now. Go back to your terminal.")
    else:
        messages.info(request, f"“{found.name}” was refused.")
    return redirect("account-tokens")
