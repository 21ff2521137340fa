"""Notifications as JSON. No answer has the address of a target; the answers that make a secret have it once."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.notifications.senders.addresses import MAX_EMAIL, MAX_EMAILS, MAX_URL
from apps.notifications.services.rules import MAX_PATTERN, MAX_PATTERNS
from apps.notifications.services.targets import MAX_NAME, MAX_OVERLAP_HOURS
from apps.notifications.states import DeliveryState, Occasion, TargetKind
from controlplane.http.drf_fields import ListField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

_ID_CHARACTERS = 26


def _url(**options: Any) -> TextField:
    return TextField(
        max_length=MAX_URL,
        write_only=True,
        help_text="The https address of a webhook, of Slack's incoming webhook, or of the workflow of Teams.",
        **options,
    )


def _emails(**options: Any) -> ListField:
    return ListField(
        child=TextField(max_length=MAX_EMAIL),
        min_length=1,
        max_length=MAX_EMAILS,
        write_only=True,
        help_text="The addresses of an e-mail target.",
        **options,
    )


class NotificationTargetCreateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /notification-targets``."""

    name = TextField(max_length=MAX_NAME, help_text="What people call it.")
    kind = serializers.ChoiceField(choices=[str(kind) for kind in TargetKind])
    url = _url(required=False)
    emails = _emails(required=False)
    secret = TextField(
        required=False,
        write_only=True,
        max_length=100,
        help_text="The secret of a webhook, whsec_ and base64; without it, a new one is in the answer.",
    )


class NotificationTargetChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /notification-targets/{target_id}``: what is left out stays."""

    name = TextField(required=False, max_length=MAX_NAME)
    url = _url(required=False)
    emails = _emails(required=False)


class NotificationSecretRotateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /notification-targets/{target_id}/rotate-secret``."""

    overlap_hours = WholeNumberField(
        default=24,
        min_value=0,
        max_value=MAX_OVERLAP_HOURS,
        help_text="For so long messages have a signature by the old secret, too.",
    )


class NotificationTargetSerializer(serializers.Serializer[Any]):
    """Where messages go. Times are RFC 3339 in UTC."""

    target_id = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=[str(kind) for kind in TargetKind])
    shown = serializers.CharField(help_text="The host of its address, or how many e-mail addresses it has.")
    overlap_until = serializers.CharField(
        allow_null=True, help_text="Until then messages are also signed by the secret before the current one."
    )
    failing_since = serializers.CharField(allow_null=True, help_text="Null while it accepts what it gets.")
    problem = serializers.CharField(allow_null=True, help_text="Why it failed last.")
    delivered_at = serializers.CharField(allow_null=True, help_text="When it accepted a message, to the hour.")
    revision = serializers.IntegerField(help_text="Counts the changes by users.")
    created_at = serializers.CharField()
    created_by = serializers.CharField()
    changed_at = serializers.CharField()
    changed_by = serializers.CharField()


class NotificationTargetWithSecretSerializer(NotificationTargetSerializer):
    """A target with the secret that signs its messages from now on."""

    secret = serializers.SerializerMethodField()

    @extend_schema_field(serializers.CharField(allow_null=True, help_text="Only this answer has it. Null: not signed."))
    def get_secret(self, _target: Any) -> str | None:
        secret: str | None = self.context["secret"]
        return secret


class NotificationTargetsSerializer(serializers.Serializer[Any]):
    """All targets by name."""

    targets = NotificationTargetSerializer(many=True)


def _patterns(about: str, **options: Any) -> ListField:
    return ListField(child=TextField(max_length=MAX_PATTERN), max_length=MAX_PATTERNS, help_text=about, **options)


def _occasions(**options: Any) -> ListField:
    choice = serializers.ChoiceField(choices=[str(occasion) for occasion in Occasion])
    return ListField(
        child=choice,
        min_length=1,
        max_length=len(Occasion),
        help_text="`failed_after_success` and `fixed` compare with the newest run before of the same pipeline and ref.",
        **options,
    )


_PIPELINES = "Patterns of pipelines, such as api-*; empty: all."
_BRANCHES = "Patterns of refs, such as release/*; empty: all."


class NotificationRuleCreateSerializer(serializers.Serializer[Any]):
    """The body of ``POST /notification-rules``."""

    target_id = TextField(max_length=_ID_CHARACTERS)
    occasions = _occasions()
    pipelines = _patterns(_PIPELINES, default=list)
    branches = _patterns(_BRANCHES, default=list)


class NotificationRuleChangeSerializer(serializers.Serializer[Any]):
    """The body of ``PATCH /notification-rules/{rule_id}``: what is left out stays."""

    target_id = TextField(required=False, max_length=_ID_CHARACTERS)
    occasions = _occasions(required=False)
    pipelines = _patterns(_PIPELINES, required=False)
    branches = _patterns(_BRANCHES, required=False)


class NotificationRuleSerializer(serializers.Serializer[Any]):
    """Which target hears of what."""

    rule_id = serializers.CharField()
    target_id = serializers.CharField()
    occasions = serializers.ListField(child=serializers.CharField())
    pipelines = serializers.ListField(child=serializers.CharField())
    branches = serializers.ListField(child=serializers.CharField())
    revision = serializers.IntegerField(help_text="Counts the changes.")
    created_at = serializers.CharField()
    created_by = serializers.CharField()
    changed_at = serializers.CharField()
    changed_by = serializers.CharField()


class NotificationRulesSerializer(serializers.Serializer[Any]):
    """All rules, the oldest first."""

    rules = NotificationRuleSerializer(many=True)


class NotificationDeliveriesQuerySerializer(serializers.Serializer[Any]):
    """Which deliveries to list."""

    target_id = TextField(required=False, max_length=_ID_CHARACTERS, help_text="Only those to this target.")
    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=50)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class NotificationAttemptSerializer(serializers.Serializer[Any]):
    """One attempt to deliver a message."""

    at = serializers.CharField()
    milliseconds = serializers.IntegerField()
    status = serializers.IntegerField(allow_null=True, help_text="Of HTTP or of the mail server; null: no answer.")
    problem = serializers.CharField(allow_null=True, help_text="Null: the target accepted it.")
    excerpt = serializers.CharField(allow_blank=True, help_text="The beginning of the answer, without secrets.")


class NotificationDeliverySerializer(serializers.Serializer[Any]):
    """A message to a target. Times are RFC 3339 in UTC."""

    delivery_id = serializers.CharField(help_text="A point and the target are its end.")
    target_id = serializers.CharField()
    target_name = serializers.CharField(help_text="Its name at that time.")
    message_id = serializers.CharField(help_text="The header webhook-id; a repeated message has the same.")
    type = serializers.CharField(source="message.type")
    headline = serializers.CharField(source="message.headline")
    subject = serializers.CharField(source="message.subject")
    url = serializers.CharField(source="message.url", allow_null=True)
    state = serializers.ChoiceField(choices=[str(state) for state in DeliveryState])
    attempts = serializers.SerializerMethodField()
    attempt_count = serializers.IntegerField()
    reason = serializers.CharField(allow_null=True, help_text="Why it is tried no more, where no attempt says it.")
    requested_by = serializers.CharField(allow_null=True, help_text="Who asked for it; null: a rule did.")
    created_at = serializers.CharField()
    ended_at = serializers.CharField(allow_null=True)

    @extend_schema_field(NotificationAttemptSerializer(many=True, help_text="The newest 20, the oldest first."))
    def get_attempts(self, delivery: Any) -> Any:
        return NotificationAttemptSerializer(delivery.attempts or [], many=True).data


class NotificationDeliveryPageSerializer(serializers.Serializer[Any]):
    """A page of deliveries, newest first."""

    deliveries = NotificationDeliverySerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class OutboxFailedItemSerializer(serializers.Serializer[Any]):
    """Something that was to be done after an act, and could not be done."""

    item_id = serializers.CharField(source="entry")
    topic = serializers.CharField()
    key = serializers.CharField(help_text="What it belongs to: a run, a commit, a target.")
    fact = serializers.SerializerMethodField()
    attempts = serializers.IntegerField()
    problem = serializers.CharField()
    created_at = serializers.CharField()
    failed_at = serializers.CharField()

    @extend_schema_field(serializers.DictField())
    def get_fact(self, item: Any) -> Any:
        return dict(item.fact)


class OutboxFailedItemsSerializer(serializers.Serializer[Any]):
    """The items that were given up in this month and the last one, the newest first: at most 200 of each."""

    items = OutboxFailedItemSerializer(many=True)
