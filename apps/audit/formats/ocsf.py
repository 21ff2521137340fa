"""Audit events with the field names of OCSF (Open Cybersecurity Schema Framework, https://schema.ocsf.io).

docs/audit-export.md says what this mapping keeps and what it cannot express.
"""

from typing import Any

from controlplane.lib import clock

VERSION = "1.3.0"
_PRODUCT = {"name": "Hybrid CI/CD control plane", "vendor_name": "Hybrid CI"}

# Classes: their category, their number, their name.
_AUTHENTICATION = (3, "Identity & Access Management", 3002, "Authentication")
_ENTITY = (3, "Identity & Access Management", 3004, "Entity Management")
_API = (6, "Application Activity", 6003, "API Activity")

_LOGON, _LOGOFF = 1, 2
_SIGN_INS = {
    "user.signed_in": _LOGON,
    "user.sign_in_failed": _LOGON,
    "user.signed_out": _LOGOFF,
    "user.signed_out_everywhere": _LOGOFF,
    "session.revoked": _LOGOFF,
}
# What is managed, in contrast to what runs.
_ENTITIES = frozenset(
    {"agent", "api_token", "enrolment_token", "identity", "invitation", "pipeline", "secret", "user"},
)
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_NAMES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
_VERBS = {
    **dict.fromkeys(("created", "enrolled", "linked", "version_added", "started", "hold_placed"), _CREATE),
    **dict.fromkeys(("delivered", "downloaded", "exported", "identity_issued"), _READ),
    **dict.fromkeys(("deleted", "revoked", "unlinked"), _DELETE),
}
_USER, _SYSTEM, _OTHER = 1, 3, 99
_TYPES = {"user": _USER, "system": _SYSTEM}
_SUCCESS, _FAILURE = 1, 2
_INFORMATIONAL, _LOW = 1, 2

# The columns of CSV, as paths into an event.
OCSF_COLUMNS = (
    *("metadata.uid", "time", "metadata.original_time", "class_uid", "class_name", "activity_id", "activity_name"),
    *("type_uid", "status_id", "status", "status_detail", "severity_id", "actor.user.uid", "actor.user.name"),
    *("actor.user.type_id", "actor.session.uid", "src_endpoint.ip", "api.operation", "api.request.uid"),
    *("entity.uid", "entity.type", "user.uid", "user.email_addr", "resources", "unmapped"),
)


def ocsf_event(record: Any) -> dict[str, Any]:
    """The event as OCSF's Authentication, Entity Management or API Activity."""
    category, category_name, number, name = _class_of(record.action)
    activity, activity_name = _activity_of(record.action)
    failed = record.result == "refused"
    kind, _, identifier = record.target.partition(":")
    event = {
        "metadata": {
            "version": VERSION,
            "product": _PRODUCT,
            "log_name": "audit",
            "uid": record.entry,
            "original_time": record.at,
        },
        "time": int(clock.parse_timestamp(record.at).timestamp() * 1000),
        "category_uid": category,
        "category_name": category_name,
        "class_uid": number,
        "class_name": name,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": number * 100 + activity,
        "severity_id": _LOW if failed else _INFORMATIONAL,
        "status_id": _FAILURE if failed else _SUCCESS,
        "status": "Failure" if failed else "Success",
        "status_detail": record.result,
        "actor": {"user": _actor_user(record)},
        "unmapped": {
            "action": record.action,
            "target": record.target,
            "actor_kind": record.actor_kind,
            "detail": dict(record.detail or {}),
        },
    }
    if number == _AUTHENTICATION[2]:
        event["user"] = {"email_addr": identifier} if kind == "email" else {"uid": identifier}
        event["service"] = {"name": _PRODUCT["name"]}
    elif number == _ENTITY[2]:
        event["entity"] = {"uid": identifier, "type": kind}
    else:
        event["api"] = {"operation": record.action}
        event["resources"] = [{"uid": identifier, "type": kind}]
        event["src_endpoint"] = {"name": record.actor_name}
    return event


def _class_of(action: str) -> tuple[int, str, int, str]:
    if action in _SIGN_INS:
        return _AUTHENTICATION
    return _ENTITY if action.partition(".")[0] in _ENTITIES else _API


def _activity_of(action: str) -> tuple[int, str]:
    if action in _SIGN_INS:
        activity = _SIGN_INS[action]
        return activity, "Logon" if activity == _LOGON else "Logoff"
    activity = _VERBS.get(action.partition(".")[2], _UPDATE)
    return activity, _NAMES[activity]


def _actor_user(record: Any) -> dict[str, Any]:
    return {"uid": record.actor_id, "name": record.actor_name, "type_id": _TYPES.get(record.actor_kind, _OTHER)}
