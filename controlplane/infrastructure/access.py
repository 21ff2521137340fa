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
    "account-claims": _access("Get Put"),
    "agents": _access("BatchGet Delete Get Put Update", indexes="by_name by_region"),
    "api-tokens": _access("BatchGet Delete Get Put Update", indexes="by_id by_name by_user"),
    # Audit events are never changed or deleted.
    "audit": _access("BatchGet Get Put Query", indexes="by_target"),
    "rate-limits": _access("Update"),
    "enrolment-tokens": _access("BatchGet Delete Get Put Update", indexes="by_age"),
    "fleet": _access("Get Query Update"),
    "heartbeats": _access("BatchGet Delete Get Put Update"),
    "idempotency": _access("Get Put"),
    "identities": _access("Get Put"),
    "job-logs": _access("Put Query"),
    "jobs": _access("BatchGet ConditionCheck Get Put Update", indexes="by_agent by_day by_open by_outcome"),
    "oauth-states": _access("Delete Put"),
    "pipelines": _access("Delete Get Put Query Update"),
    "queue": _access("BatchGet Delete Get Put Query Update"),
    "sessions": _access("BatchGet Delete Get Put Update", indexes="by_user"),
    "summary": _access("Query Update"),
    "users": _access("BatchGet Get Put Update", indexes="by_email by_name"),
}
