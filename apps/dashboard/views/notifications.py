"""The pages of notifications: targets, rules, deliveries, and what the outbox could not do."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.authentication import request_actor
from apps.accounts.policies import Permission
from apps.dashboard.forms.notifications import (
    NotificationRuleForm,
    NotificationTargetForm,
    NotificationTargetNewForm,
    SecretOverlapForm,
)
from apps.dashboard.pages import page, shared_context
from apps.notifications.selectors.deliveries import delivery_get, delivery_list
from apps.notifications.selectors.outbox import failed_items
from apps.notifications.selectors.targets import Rule, Target, rule_get, rule_list, target_get, target_list
from apps.notifications.services import (
    delivery_redeliver,
    outbox_retry,
    rule_change,
    rule_create,
    rule_delete,
    target_change,
    target_create,
    target_delete,
    target_secret_rotate,
    target_test,
)
from apps.notifications.states import TargetKind
from controlplane.http.body_limits import body_limit
from controlplane.lib import clock
from controlplane.lib.errors import ApplicationError

# A form may escape each byte of an address or of forty patterns.
_BODY = 64 * 1024
_RECENT, _PAGE = 10, 50
_MANAGE = Permission.NOTIFICATIONS_MANAGE


@body_limit(_BODY)
@page(_MANAGE)
def notifications_page(request: HttpRequest) -> HttpResponse:
    """Targets and rules with forms that add some, the newest deliveries, and what could not be done."""
    return _overview(request)


@body_limit(_BODY)
@page(_MANAGE, "POST")
def target_new_action(request: HttpRequest) -> HttpResponse:
    """Add a target. Of a webhook, the page shows its secret this once."""
    form = NotificationTargetNewForm(request.POST)
    if form.is_valid():
        members = {**form.members, "kind": TargetKind(form.cleaned_data["kind"])}
        try:
            target, secret = target_create(actor=request_actor(request), **members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            if secret:
                return _target(request, target, secret=secret)
            messages.success(request, f"The target {target.name} is added. Send it a test, and add a rule.")
            return redirect("dashboard:notification_target", target_id=target.target_id)
    return _overview(request, target_form=form)


@body_limit(_BODY)
@page(_MANAGE, "GET", "HEAD", "POST")
def target_page(request: HttpRequest, target_id: str) -> HttpResponse:
    """One target with its newest deliveries, and a form that changes it."""
    target = target_get(target_id)
    form = NotificationTargetForm(request.POST if request.method == "POST" else None, initial={"name": target.name})
    if form.is_valid():
        members = form.members
        try:
            target_change(
                actor=request_actor(request),
                target_id=target_id,
                name=members["name"],
                url=members["url"] or None,
                emails=members["emails"] or None,
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, f"The target {members['name']} is saved.")
            return redirect("dashboard:notification_target", target_id=target_id)
    return _target(request, target, form=form)


@page(_MANAGE, "POST")
def target_test_action(request: HttpRequest, target_id: str) -> HttpResponse:
    """Send a message to the target at once, and say how that went."""
    delivery = target_test(actor=request_actor(request), target_id=target_id)
    (attempt,) = delivery.attempts
    if attempt["problem"]:
        messages.error(request, f"The test did not arrive: {attempt['problem']}.")
    else:
        messages.success(request, f"The test arrived at {delivery.target_name}.")
    return redirect("dashboard:notification_target", target_id=target_id)


@page(_MANAGE, "POST")
def secret_action(request: HttpRequest, target_id: str) -> HttpResponse:
    """Give a webhook a new secret, which the page shows this once."""
    form = SecretOverlapForm(request.POST)
    if form.is_valid():
        hours = form.cleaned_data["overlap_hours"]
        try:
            target, secret = target_secret_rotate(
                actor=request_actor(request), target_id=target_id, overlap_hours=hours
            )
        except ApplicationError as error:
            form.refuse(error)
        else:
            return _target(request, target, secret=secret)
    return _target(request, target_get(target_id), secret_form=form)


@page(_MANAGE, "POST")
def target_delete_action(request: HttpRequest, target_id: str) -> HttpResponse:
    """Delete the target with its rules, and redirect to the overview."""
    target = target_get(target_id)
    target_delete(actor=request_actor(request), target_id=target_id)
    messages.success(request, f"The target {target.name} is deleted with its rules.")
    return redirect("dashboard:notifications")


@body_limit(_BODY)
@page(_MANAGE, "POST")
def rule_new_action(request: HttpRequest) -> HttpResponse:
    """Add a rule and redirect to the overview."""
    form = NotificationRuleForm(request.POST, targets=_choices())
    if form.is_valid():
        try:
            rule_create(actor=request_actor(request), **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, "The rule is added. It concerns runs that start from now on.")
            return redirect("dashboard:notifications")
    return _overview(request, rule_form=form)


@body_limit(_BODY)
@page(_MANAGE, "GET", "HEAD", "POST")
def rule_page(request: HttpRequest, rule_id: str) -> HttpResponse:
    """A form that changes a rule."""
    rule = rule_get(rule_id)
    posted = request.POST if request.method == "POST" else None
    form = NotificationRuleForm(posted, targets=_choices(), initial=_initial(rule))
    if form.is_valid():
        try:
            rule_change(actor=request_actor(request), rule_id=rule_id, **form.members)
        except ApplicationError as error:
            form.refuse(error)
        else:
            messages.success(request, "The rule is saved.")
            return redirect("dashboard:notifications")
    return _render(request, "rule", {"rule": rule, "form": form}, is_refused=form.is_bound)


def _initial(rule: Rule) -> dict[str, Any]:
    return {
        "target_id": rule.target_id,
        "occasions": list(rule.occasions),
        "pipelines": "\n".join(rule.pipelines),
        "branches": "\n".join(rule.branches),
    }


@page(_MANAGE, "POST")
def rule_delete_action(request: HttpRequest, rule_id: str) -> HttpResponse:
    """Delete the rule and redirect to the overview."""
    rule_delete(actor=request_actor(request), rule_id=rule_id)
    messages.success(request, "The rule is deleted.")
    return redirect("dashboard:notifications")


@page(_MANAGE)
def delivery_list_page(request: HttpRequest) -> HttpResponse:
    """The deliveries of the last 30 days, newest first: of all targets, or of one."""
    target_id, cursor = request.GET.get("target") or None, request.GET.get("cursor") or None
    target = target_get(target_id) if target_id else None
    found = delivery_list(target_id=target_id, limit=_PAGE, cursor=cursor)
    return _render(request, "deliveries", {"found": found, "cursor": cursor, "target": target})


@page(_MANAGE)
def delivery_page(request: HttpRequest, delivery_id: str) -> HttpResponse:
    """One message with its attempts."""
    return _render(request, "delivery", {"delivery": delivery_get(delivery_id)})


@page(_MANAGE, "POST")
def redeliver_action(request: HttpRequest, delivery_id: str) -> HttpResponse:
    """Send the message once more and redirect to the new delivery."""
    fresh = delivery_redeliver(actor=request_actor(request), delivery_id=delivery_id)
    messages.success(request, "The message is sent once more, after those that wait for the target.")
    return redirect("dashboard:notification_delivery", delivery_id=fresh.delivery_id)


@page(_MANAGE, "POST")
def failed_retry_action(request: HttpRequest, item_id: str) -> HttpResponse:
    """Try again what could not be done, and redirect to the overview."""
    outbox_retry(actor=request_actor(request), item_id=item_id)
    messages.success(request, "It is tried again, for 24 hours.")
    return redirect("dashboard:notifications")


def _choices() -> list[tuple[str, str]]:
    return [(str(target.target_id), str(target.name)) for target in target_list()]


def _overview(
    request: HttpRequest,
    *,
    target_form: NotificationTargetNewForm | None = None,
    rule_form: NotificationRuleForm | None = None,
) -> HttpResponse:
    targets = target_list()
    names = {str(target.target_id): str(target.name) for target in targets}
    context = {
        "targets": targets,
        "rules": [(rule, names.get(str(rule.target_id))) for rule in rule_list()],
        "recent": delivery_list(limit=_RECENT).deliveries,
        "failed": list(failed_items(clock.now())),
        "target_form": target_form or NotificationTargetNewForm(),
        "rule_form": rule_form or NotificationRuleForm(targets=names.items()),
    }
    return _render(request, "index", context, is_refused=bool(target_form or rule_form))


def _target(
    request: HttpRequest,
    target: Target,
    *,
    form: NotificationTargetForm | None = None,
    secret_form: SecretOverlapForm | None = None,
    secret: str | None = None,
) -> HttpResponse:
    context = {
        "target": target,
        "form": form or NotificationTargetForm(initial={"name": target.name}),
        "secret_form": secret_form or SecretOverlapForm(),
        "secret": secret,
        "overlaps": bool(target.overlap_until and target.overlap_until > clock.timestamp(clock.now())),
        "recent": delivery_list(target_id=str(target.target_id), limit=_RECENT).deliveries,
    }
    is_refused = bool((form and form.is_bound) or secret_form)
    response = _render(request, "target", context, is_refused=is_refused)
    if secret:
        response["Cache-Control"] = "no-store"
    return response


def _render(request: HttpRequest, template: str, context: dict[str, Any], *, is_refused: bool = False) -> HttpResponse:
    context = {**shared_context(request), "section": "notifications", **context}
    return render(request, f"dashboard/notifications/{template}.html", context, status=422 if is_refused else 200)
