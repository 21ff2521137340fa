"""The function's permissions on each table: the actions that its code performs, and no others.

`tests/infrastructure/test_access.py` runs the code, records its calls, and compares them with this table both ways. The
emulator of every test refuses an action that is missing here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """`actions` are IAM actions on the table itself; `indexes` are the indexes that the function queries.

    A transaction needs the actions of its parts: PutItem, UpdateItem, DeleteItem, and ConditionCheckItem for a check.
    """

    actions: frozenset[str]
    indexes: frozenset[str] = frozenset()


def _access(actions: str, *, indexes: str = "") -> Access:
    return Access(
        frozenset(f"{action}Item" if action != "Query" else action for action in actions.split()),
        frozenset(indexes.split()),
    )


TABLE_ACCESS = {
    "account-claims": _access("ConditionCheck Delete Get Put"),
    "agents": _access("BatchGet Delete Get Put Update", indexes="by_name region-index"),
    "api-tokens": _access("BatchGet ConditionCheck Delete Get Put Update", indexes="by_id by_name by_user"),
    "artifacts": _access("BatchGet Delete Get Put Query Update"),
    # Audit events are never changed or deleted.
    "audit": _access("BatchGet Get Put Query", indexes="by_action by_actor by_target"),
    # Nor are seals.
    "audit-seals": _access("BatchGet Get Put Query"),
    "audit-tasks": _access("Get Put Query Update"),
    "connections": _access("Delete Get Put Query Update"),
    "deployments": _access("BatchGet Get Put Update", indexes="by_environment by_month"),
    "environments": _access("ConditionCheck Delete Get Put Query Update"),
    "rate-limits": _access("Update"),
    "device-authorizations": _access("Get Put Update"),
    "enrolment-tokens": _access("BatchGet Delete Get Put Update", indexes="by_age"),
    "fleet": _access("Get Query Update"),
    "heartbeats": _access("BatchGet Delete Get Put Update"),
    "idempotency": _access("Get Put"),
    "identities": _access("BatchGet Delete Get Put"),
    "invitations": _access("BatchGet Delete Get Put", indexes="by_age"),
    "job-logs": _access("Put Query"),
    "job-results": _access("BatchGet Put"),
    "job-reports": _access("Get Put Query"),
    "jobs": _access("BatchGet ConditionCheck Get Put Update", indexes="by_agent by_day by_open by_outcome"),
    "oauth-states": _access("Delete Put"),
    "notification-deliveries": _access("BatchGet Get Put Query Update", indexes="by_day"),
    "notifications": _access("BatchGet ConditionCheck Delete Get Put Query Update"),
    "outbox": _access("BatchGet Delete Get Put Query Update"),
    "pipelines": _access("BatchGet Delete Get Put Query Update"),
    "rotations": _access("BatchGet Delete Get Put Query Update", indexes="by_due"),
    "queue": _access("BatchGet Delete Get Put Query Update"),
    "runs": _access("BatchGet Get Put Query Update", indexes="by_day by_due by_open by_pipeline"),
    "groups": _access("Delete Put Query Update"),
    "schedules": _access("BatchGet Delete Get Put Query Update", indexes="by_due"),
    "secret-versions": _access("Get Put Query Update"),
    "source-checks": _access("Query Update"),
    "secrets": _access("Delete Get Put Query Update"),
    "source-events": _access("BatchGet Get Put Update", indexes="by_due by_month by_trouble"),
    "sessions": _access("BatchGet Delete Get Put Update", indexes="user_id-created_at-index"),
    "summary": _access("Query Update"),
    "users": _access("BatchGet ConditionCheck Delete Get Put Update", indexes="by_email by_name"),
}
