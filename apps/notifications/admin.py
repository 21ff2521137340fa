"""Notifications and the outbox in the admin. Addresses and secrets go in and never come out."""

from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest

from apps.accounts.policies import Permission
from apps.notifications.models import RULES, TARGETS, Delivery, OutboxItem, Rule, Target
from apps.notifications.selectors.deliveries import BY_DAY, OF_TARGET, delivery_partition
from apps.notifications.selectors.outbox import FAILED, failed_partition
from apps.notifications.selectors.targets import target_list
from apps.notifications.services import (
    delivery_redeliver,
    outbox_retry,
    rule_change,
    rule_create,
    rule_delete,
    target_change,
    target_create,
    target_delete,
    target_test,
)
from apps.notifications.states import Occasion, TargetKind
from controlplane.lib.actor import Actor
from controlplane.lib.errors import Conflict, InvalidInput
from controlplane.nosql.admin.forms import NamesField, RecordForm, revision, text, write_only_text
from controlplane.nosql.admin.options import NosqlModelAdmin, act, moment
from controlplane.nosql.admin.site import site
from controlplane.nosql.facade import Facade
from controlplane.nosql.record import compact_json

_MANAGE = Permission.NOTIFICATIONS_MANAGE


class TargetFacade(Facade, record=Target, only_partition=TARGETS, hidden=("encrypted",)):
    """A target as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "notification target"

    def __str__(self) -> str:
        return str(self.record.name)


class TargetForm(RecordForm):
    """What a user can change of a target."""

    revision_field = "revision"

    name = text(max_length=64)
    url = write_only_text(
        label="Address", required=False, max_length=2048, help_text="A new https address. Empty: it stays."
    )
    emails = NamesField(required=False, help_text="New e-mail addresses. Empty: they stay.")
    revision = revision()

    def shown(self, name: str, facade: Any) -> Any:
        return None if name in ("url", "emails") else super().shown(name, facade)

    def write(self, actor: Actor) -> Target:
        data = self.cleaned_data
        return target_change(
            actor=actor,
            target_id=self.instance.pk,
            name=data["name"],
            url=data["url"].strip() or None,
            emails=data["emails"] or None,
            revision=data["revision"],
        )


class TargetAddForm(RecordForm):
    """A new target. The secret of a webhook is shown once, after it is made."""

    name = text(max_length=64)
    kind = forms.ChoiceField(choices=[(kind.value, kind.value) for kind in TargetKind])
    url = write_only_text(label="Address", required=False, max_length=2048, help_text="For all but e-mail.")
    emails = NamesField(required=False, help_text="E-mail addresses.")

    def write(self, actor: Actor) -> Target:
        data, kind = self.cleaned_data, TargetKind(self.cleaned_data["kind"])
        try:
            target, secret = target_create(
                actor=actor, name=data["name"], kind=kind, url=data["url"].strip(), emails=data["emails"]
            )
        except Conflict as error:
            raise InvalidInput.field("name", error.message) from error
        self.secret = secret or ""
        return target


class TargetAdmin(NosqlModelAdmin):
    # A form may escape each byte of an address.
    body_limit = 64 * 1024
    permissions = {"view": _MANAGE, "add": _MANAGE, "change": _MANAGE, "delete": _MANAGE}  # noqa: RUF012
    history_kind = "notification_target"
    list_display = ("name", "kind", "shown", "is_failing", moment("delivered_at"))
    form = TargetForm
    add_form = TargetAddForm
    details = (
        "target_id",
        "kind",
        "shown",
        "is_failing",
        moment("overlap_until"),
        moment("delivered_at"),
        "created_by",
        moment("created_at"),
        "changed_by",
        moment("changed_at"),
    )
    delete_note = "Its rules are deleted, too. Messages that wait for it are not sent."

    def record_delete(self, actor: Actor, obj: Any) -> None:
        target_delete(actor=actor, target_id=obj.pk)

    @act("Send a test", permission=_MANAGE, done="Tested; see its deliveries:")
    def test(self, actor: Actor, obj: Any) -> None:
        target_test(actor=actor, target_id=obj.pk)

    @display(description="failing", empty_value="-")
    def is_failing(self, obj: Any) -> str:
        record = obj.record
        return f"since {record.failing_since[:16].replace('T', ' ')}: {record.problem}" if record.failing_since else ""


class RuleFacade(Facade, record=Rule, only_partition=RULES):
    """A rule as the admin shows it."""

    class Meta(Facade.Meta):
        verbose_name = "notification rule"

    def __str__(self) -> str:
        return str(self.record.rule_id)


def _target_choices() -> list[tuple[str, str]]:
    """All targets, of which there are few. One query."""
    return [("", "Choose a target"), *((str(one.target_id), f"{one.name} ({one.kind})") for one in target_list())]


class RuleAddForm(RecordForm):
    """A new rule."""

    target_id = forms.ChoiceField(label="Target", choices=_target_choices)
    occasions = NamesField(required=True, help_text=f"Some of {', '.join(Occasion)}.")
    pipelines = NamesField(required=False, help_text="Patterns such as api-*. Empty: all.")
    branches = NamesField(required=False, help_text="Patterns such as release/*. Empty: all.")

    def write(self, actor: Actor) -> Rule:
        try:
            return rule_create(actor=actor, **self.cleaned_data)
        except Conflict as error:
            raise InvalidInput.field("target_id", error.message) from error


class RuleForm(RuleAddForm):
    """What a user can change of a rule."""

    revision_field = "revision"

    revision = revision()

    def write(self, actor: Actor) -> Rule:
        return rule_change(actor=actor, rule_id=self.instance.pk, **self.cleaned_data)


class RuleAdmin(NosqlModelAdmin):
    # A form may escape each byte of forty patterns.
    body_limit = 128 * 1024
    permissions = {"view": _MANAGE, "add": _MANAGE, "change": _MANAGE, "delete": _MANAGE}  # noqa: RUF012
    history_kind = "notification_rule"
    list_display = ("rule_id", "target_id", "occasion_list", "pipeline_list", "branch_list")
    form = RuleForm
    add_form = RuleAddForm
    details = ("rule_id", "created_by", moment("created_at"), "changed_by", moment("changed_at"))
    delete_note = "What it has announced is still sent."

    def get_list_display(self, request: HttpRequest) -> list[Any]:  # noqa: ARG002 — Django's own
        """The columns, with the names of the targets in place of their ids: one query for all rows."""
        names = {str(one.target_id): str(one.name) for one in target_list()}

        @display(description="target")
        def target(obj: Any) -> str:
            return names.get(str(obj.record.target_id), str(obj.record.target_id))

        return [target if column == "target_id" else column for column in self.list_display]

    def record_delete(self, actor: Actor, obj: Any) -> None:
        rule_delete(actor=actor, rule_id=obj.pk)

    @display(description="occasions")
    def occasion_list(self, obj: Any) -> str:
        return ", ".join(obj.record.occasions)

    @display(description="pipelines", empty_value="all")
    def pipeline_list(self, obj: Any) -> str:
        return ", ".join(obj.record.pipelines)

    @display(description="branches", empty_value="all")
    def branch_list(self, obj: Any) -> str:
        return ", ".join(obj.record.branches)


class DeliveryFacade(Facade, record=Delivery):
    """A delivery as the admin shows it."""

    listings = (OF_TARGET, BY_DAY)

    @classmethod
    def partition(cls, key: str) -> str:
        return delivery_partition(key)

    class Meta(Facade.Meta):
        verbose_name = "notification delivery"
        verbose_name_plural = "notification deliveries"

    def __str__(self) -> str:
        return str(self.record.delivery_id)


class DeliveryAdmin(NosqlModelAdmin):
    permissions = {"view": _MANAGE}  # noqa: RUF012
    history_kind = "notification_delivery"
    list_display = ("subject", "target_name", "state", "attempt_count", moment("created_at"))
    search_fields = ("target_id",)
    search_help_text = "The id of a target."
    details = (
        "delivery_id",
        "subject",
        "target_id",
        "target_name",
        "message_id",
        "state",
        "reason",
        "attempt_text",
        "requested_by",
        moment("created_at"),
        moment("ended_at"),
    )

    def search(self, queryset: Any, term: str) -> Any:
        return queryset.filter(target_id=term.lower())

    @act("Send again", permission=_MANAGE, done="Sent again")
    def redeliver(self, actor: Actor, obj: Any) -> None:
        delivery_redeliver(actor=actor, delivery_id=obj.pk)

    @display(description="message")
    def subject(self, obj: Any) -> str:
        return f"{obj.record.message['headline']}: {obj.record.message['subject']}"

    @display(description="attempts", empty_value="-")
    def attempt_text(self, obj: Any) -> str:
        return "\n".join(
            f"{attempt['at'][:19].replace('T', ' ')} ({attempt['milliseconds']} ms): "
            f"{attempt['problem'] or 'accepted'} {attempt['excerpt']}".rstrip()
            for attempt in obj.record.attempts or []
        )


class OutboxItemFacade(Facade, record=OutboxItem):
    """An item of the outbox that was given up, as the admin shows it."""

    listings = (FAILED,)

    @classmethod
    def partition(cls, key: str) -> str:
        return failed_partition(key)

    class Meta(Facade.Meta):
        verbose_name = "failed item of the outbox"
        verbose_name_plural = "failed items of the outbox"

    def __str__(self) -> str:
        return f"{self.record.topic} {self.record.key}"


class OutboxItemAdmin(NosqlModelAdmin):
    permissions = {"view": _MANAGE}  # noqa: RUF012
    history_kind = "outbox_item"
    list_display = ("topic", "key", "problem", "attempts", moment("failed_at"))
    details = ("topic", "key", "fact_text", "problem", "attempts", moment("created_at"), moment("failed_at"))

    @act("Try again", permission=_MANAGE, done="Tried again")
    def retry(self, actor: Actor, obj: Any) -> None:
        outbox_retry(actor=actor, item_id=obj.pk)

    @display(description="what it says")
    def fact_text(self, obj: Any) -> str:
        return compact_json(obj.record.fact)


site.register(TargetFacade, TargetAdmin)
site.register(RuleFacade, RuleAdmin)
site.register(DeliveryFacade, DeliveryAdmin)
site.register(OutboxItemFacade, OutboxItemAdmin)
