"""The pages of rotations: one rotation with its steps, how a secret is rotated, and the acts on both."""

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.secrets import RotationForm
from apps.dashboard.pages import actions_context, is_fragment, page, refresh_seconds, shared_context, show
from apps.secrets.selectors import secret_get
from apps.secrets.selectors.rotations import LATE_AFTER, plan_and_rotations, plan_find, rotation_get
from apps.secrets.services.rotation_plans import (
    place_of,
    rotation_configuration_delete,
    rotation_configure,
    schedule_text,
)
from apps.secrets.services.rotations import is_final, rotation_hasten, rotation_stop, secret_rotate
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError

_ROTATIONS = 10
_EMPTY = {
    "rotator": "generated",
    "config": {},
    "targets": [],
    "schedule": {"every_days": 30, "at": "03:00", "weekday": "friday", "zone": "UTC"},
    "overlap_minutes": 1440,
}


def rotation_context(secret_id: str) -> dict[str, Any]:
    """What the part of a secret's page about its rotation shows."""
    plan, rotations = plan_and_rotations(secret_id, limit=_ROTATIONS)
    late = clock.timestamp(clock.now() - LATE_AFTER)
    return {
        "plan": plan,
        "is_late": bool(plan and plan.due_at and plan.due_at <= late),
        "schedule": schedule_text(plan) if plan else None,
        "places": [(target["name"], place_of(target)) for target in plan.targets] if plan else [],
        "rotations": rotations,
    }


@page(Permission.SECRETS_READ)
def rotation_page(request: HttpRequest, rotation_id: str) -> HttpResponse:
    """One rotation: how far it is, and each step with its time."""
    rotation = rotation_get(rotation_id)
    live = not is_final(rotation)
    # Steps of one act follow each other.
    context: dict[str, Any] = {
        "section": "secrets",
        "rotation": rotation,
        "secret": secret_get(str(rotation.secret_id)) if not is_fragment(request) else None,
        "steps": rotation.steps,
        "live": live,
        "seconds": refresh_seconds(busy=rotation.state in ("rotating", "reverting", "retiring")),
    }
    may_act = live and Permission.SECRETS_MANAGE in request_actor(request).permissions
    may_hasten = may_act and rotation.state != "reverting" and not rotation.is_urgent
    context |= actions_context(request, stop=may_act and rotation.state == "rotating", hasten=may_hasten)
    return show(request, "rotation", context)


@page(Permission.SECRETS_MANAGE, "POST")
def rotate_action(request: HttpRequest, secret_id: str) -> HttpResponse:
    """Begin a rotation and redirect to its page."""
    try:
        rotation = secret_rotate(actor=request_actor(request), secret_id=secret_id)
    except ApplicationError as error:
        if error.status >= 500:
            raise
        messages.error(request, error.message)
        return redirect("dashboard:secret", secret_id=secret_id)
    messages.success(request, "The rotation begins within a minute.")
    return redirect("dashboard:rotation", rotation_id=rotation.rotation_id)


@page(Permission.SECRETS_MANAGE, "POST")
def rotation_stop_action(request: HttpRequest, rotation_id: str) -> HttpResponse:
    """Revert the rotation and redirect to its page."""
    rotation_stop(actor=request_actor(request), rotation_id=rotation_id)
    messages.success(request, "The rotation is reverted within a minute. The old value stays current.")
    return redirect("dashboard:rotation", rotation_id=rotation_id)


@page(Permission.SECRETS_MANAGE, "POST")
def rotation_hasten_action(request: HttpRequest, rotation_id: str) -> HttpResponse:
    """End the old value now and redirect to the rotation's page."""
    rotation_hasten(actor=request_actor(request), rotation_id=rotation_id)
    messages.success(request, "The old value ends within a minute.")
    return redirect("dashboard:rotation", rotation_id=rotation_id)


@page(Permission.ROTATIONS_CONFIGURE, "GET", "HEAD", "POST")
def rotation_configure_page(request: HttpRequest, secret_id: str) -> HttpResponse:
    """How a secret is rotated, as the JSON that the API takes."""
    secret = secret_get(secret_id)
    plan = plan_find(secret_id)
    form = RotationForm(request.POST or None, initial={"configuration": _document(plan)})
    if form.is_valid():
        try:
            rotation_configure(actor=request_actor(request), secret_id=secret_id, **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The rotation of {secret.name} is configured.")
            return redirect("dashboard:secret", secret_id=secret_id)
    context = {**shared_context(request), "section": "secrets", "secret": secret, "plan": plan, "form": form}
    return render(request, "dashboard/rotation_form.html", context, status=422 if form.is_bound else 200)


@page(Permission.ROTATIONS_CONFIGURE, "POST")
def rotation_unconfigure_action(request: HttpRequest, secret_id: str) -> HttpResponse:
    """Rotate the secret no more and redirect to its page."""
    rotation_configuration_delete(actor=request_actor(request), secret_id=secret_id)
    messages.success(request, "Nothing rotates the secret any more.")
    return redirect("dashboard:secret", secret_id=secret_id)


def _document(plan: Any) -> str:
    members = _EMPTY
    if plan is not None:
        members = {
            "rotator": plan.rotator,
            "config": plan.rotator_config,
            "targets": plan.targets,
            "schedule": plan.schedule,
            "overlap_minutes": int(plan.overlap_minutes),
        }
    return json.dumps(members, indent=2, ensure_ascii=False)
