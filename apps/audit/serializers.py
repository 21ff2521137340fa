"""Audit events as JSON, and the parameters of a search."""

from typing import Any

from rest_framework import serializers

from apps.audit.actions import Action
from apps.audit.formats import CSV, JSONL, NATIVE, OCSF
from apps.audit.seals import seal_document
from apps.audit.selectors import ACTOR, LISTED_DAYS, entry_before, entry_from
from controlplane.http.drf_fields import ChoiceField, DayOrMomentField, TextField, WholeNumberField
from controlplane.lib.cursors import MAX_LENGTH as CURSOR_MAX_LENGTH

# The most events of a page of an export.
EXPORT_PAGE = 5_000


class _SearchSerializer(serializers.Serializer[Any]):
    """What a search of the trail and an export have in common."""

    actor = serializers.RegexField(
        rf"\A{ACTOR}\Z",
        required=False,
        trim_whitespace=False,
        max_length=100,
        error_messages={"invalid": "must be user:<id>, token:<id>, agent:<id>, schedule:<id>, webhook:<id> or system"},
        help_text="user:<id> (with the user's API tokens), token:<id>, agent:<id>, schedule:<id>, webhook:<id> or "
        "system.",
    )
    target = TextField(required=False, max_length=200, help_text="What was changed, as job:<id> or pipeline:<name>.")
    action = ChoiceField([action.value for action in Action], required=False)
    first_day = DayOrMomentField(
        required=False,
        source="first_day",
        help_text="The first day, in UTC, or the time from which on. Default: all days for an actor, a target or an "
        f"action; else the last {LISTED_DAYS} days.",
    )
    to = DayOrMomentField(
        required=False, source="last_day", help_text="The last day, in UTC, or the time before which."
    )
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)

    def get_fields(self) -> dict[str, Any]:
        """The fields. One is named "from", which is a keyword of Python."""
        return {"from" if name == "first_day" else name: field for name, field in super().get_fields().items()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        first, last = attrs.get("first_day"), attrs.get("last_day")
        if first and last and entry_from(first) > entry_before(last):
            raise serializers.ValidationError({"from": "must not be after the day in “to”"})
        return attrs


class AuditQuerySerializer(_SearchSerializer):
    """The filters of ``GET /audit``."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)


class AuditExportQuerySerializer(_SearchSerializer):
    """The parameters of ``GET /audit/export``."""

    format = ChoiceField([JSONL, CSV], required=False, default=JSONL)
    schema = ChoiceField([NATIVE, OCSF], required=False, default=NATIVE, help_text="Whose names the fields have.")
    limit = WholeNumberField(required=False, min_value=1, max_value=EXPORT_PAGE, default=1_000)

    def get_fields(self) -> dict[str, Any]:
        """The fields. Without "from", an export begins with the trail."""
        fields = super().get_fields()
        fields["from"].help_text = "The first day, in UTC, or the time from which on. Default: the trail's beginning."
        return fields


class HeldQuerySerializer(serializers.Serializer[Any]):
    """Which part of a hold's copies."""

    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class HoldCreateSerializer(_SearchSerializer):
    """A legal hold: which events, and why. Without filters it holds all events."""

    cursor = None  # type: ignore[assignment]
    reason = TextField(max_length=200, help_text="Such as the name of the case.")

    def get_fields(self) -> dict[str, Any]:
        """The fields. Without "from" it begins with the trail, and without "to" it concerns later events, too."""
        fields = super().get_fields()
        fields["from"].help_text = "The first day, in UTC, or the time from which on. Default: the trail's beginning."
        fields["to"].help_text = "The last day, in UTC, or the time before which. Default: later events are held, too."
        return fields


class HoldSerializer(serializers.Serializer[Any]):
    """A legal hold. Times are RFC 3339 in UTC."""

    hold_id = serializers.CharField()
    reason = serializers.CharField()
    actor = serializers.CharField(source="of_actor", allow_null=True)
    target = serializers.CharField(source="of_target", allow_null=True)
    action = serializers.CharField(source="of_action", allow_null=True)
    since = serializers.CharField(allow_null=True, help_text="A day or a time.")
    until = serializers.SerializerMethodField()
    placed_by = serializers.CharField()
    placed_at = serializers.CharField()
    released_by = serializers.CharField(allow_null=True)
    released_at = serializers.CharField(allow_null=True)
    copied_until = serializers.SerializerMethodField()
    copies = serializers.IntegerField(help_text="How many events would expire and were copied.")

    def get_until(self, hold: Any) -> str | None:
        """A day or a time; null if later events are held, too."""
        return str(hold.until).rstrip("~") if hold.until else None

    def get_copied_until(self, hold: Any) -> str:
        """Up to where in the trail the events were copied: a day or a time."""
        return str(hold.place).partition("#")[0].rstrip("~")


class HoldsSerializer(serializers.Serializer[Any]):
    """All legal holds, newest first."""

    holds = HoldSerializer(many=True)


class AuditActorSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(source="actor_kind", help_text="user, token, agent, schedule, webhook or system")
    id = serializers.CharField(source="actor_id")
    name = serializers.CharField(source="actor_name", help_text="Its name at that time.")


class AuditEventSerializer(serializers.Serializer[Any]):
    """An audit event. `at` is RFC 3339 in UTC."""

    event_id = serializers.CharField(source="entry")
    at = serializers.CharField()
    actor = AuditActorSerializer(source="*")
    address = serializers.CharField(allow_null=True, help_text="The client's IP address; null if there is no client.")
    session = serializers.CharField(allow_null=True, help_text="The public id of the session that asked for it.")
    request_id = serializers.CharField(allow_null=True, help_text="The id of the request, as the log has it.")
    action = serializers.CharField()
    target = serializers.CharField()
    result = serializers.CharField(help_text="ok, refused, or how a job ended.")
    detail = serializers.SerializerMethodField()

    def get_detail(self, event: Any) -> dict[str, Any]:
        """More about the act, for people."""
        return dict(event.detail or {})


class AuditPageSerializer(serializers.Serializer[Any]):
    """A page of audit events, newest first. It may be shorter than the limit and still have a next one."""

    events = AuditEventSerializer(many=True, source="records")
    next_cursor = serializers.CharField(allow_null=True)


class SealQuerySerializer(serializers.Serializer[Any]):
    """A page of seals."""

    limit = WholeNumberField(required=False, min_value=1, max_value=100, default=20)
    cursor = TextField(required=False, max_length=CURSOR_MAX_LENGTH)


class SealSerializer(serializers.Serializer[Any]):
    """A seal of the audit trail: what was signed, and what the statement says."""

    number = serializers.IntegerField(source="statement.number")
    since = serializers.CharField(source="statement.since", help_text="It has the events from this time or entry on,")
    through = serializers.CharField(source="statement.through", help_text="to before this one,")
    late = serializers.IntegerField(source="statement.late", help_text="and so many of earlier times, among")
    records = serializers.IntegerField(source="statement.records", help_text="so many events.")
    size = serializers.IntegerField(source="statement.size", help_text="The number of all events up to here.")
    root_hash = serializers.CharField(source="statement.root", help_text="The root of their Merkle tree (RFC 6962).")
    index = serializers.CharField(
        source="statement.index", help_text="The SHA-256 of the ids of the seal's events, with their times of expiry."
    )
    sealed_at = serializers.CharField(source="statement.sealed_at")
    digest = serializers.CharField(source="statement.digest", help_text="By which the next seal names this one.")
    key = serializers.CharField(source="statement.key", help_text="The SHA-256 of the public key.")
    statement = serializers.CharField(source="statement.text", help_text="What is signed, after a line of its own.")
    signature = serializers.SerializerMethodField(help_text="In base64.")
    consistency = serializers.SerializerMethodField(
        help_text="The proof that the tree of the seal before is the beginning of this one (RFC 6962 section 2.1.2)."
    )

    def get_signature(self, seal: Any) -> str:
        return str(seal_document(seal)["signature"])

    def get_consistency(self, seal: Any) -> list[str]:
        return [str(node) for node in seal_document(seal)["consistency"]]


class SealPageSerializer(serializers.Serializer[Any]):
    """A page of seals, newest first."""

    seals = SealSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ProofSealSerializer(serializers.Serializer[Any]):
    statement = serializers.CharField()
    signature = serializers.CharField(help_text="In base64.")


class ProofSerializer(serializers.Serializer[Any]):
    """The proof that an event is in the sealed trail. docs/audit_check.py checks it."""

    record = serializers.DictField(help_text="The event as it is stored, which is the data of its leaf.")
    leaf = serializers.IntegerField(help_text="Which of all leaves it is, from 0 on.")
    proof = serializers.ListField(child=serializers.CharField(), help_text="RFC 6962 section 2.1.1, in hexadecimal.")
    seal = ProofSealSerializer()
    public_key = serializers.CharField(allow_null=True, help_text="PEM. Trust a key that you have from elsewhere.")
