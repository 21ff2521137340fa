"""What the function may do with each table: the actions that its code performs, and no other.

`tests/infrastructure/test_access.py` goes through the code with a record of its calls and compares both ways, and the
emulator of every test refuses the code what is not said here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """`actions` are of IAM, on the table itself; `indexes` are those that are queried.

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
    "agents": _access("BatchGet Get Put Update", indexes="by_name by_region"),
    "api-tokens": _access("BatchGet Delete Get Put Update", indexes="by_id by_name by_user"),
    # What is written there stays, and stays as it is.
    "audit": _access("BatchGet Get Put Query", indexes="by_target"),
    "rate-limits": _access("Update"),
    "enrolment-tokens": _access("BatchGet Delete Get Put Update", indexes="by_age"),
    "fleet": _access("Query Update"),
    "heartbeats": _access("BatchGet Get Put Update"),
    "idempotency": _access("Get Put"),
    "identities": _access("Get Put"),
    "job-logs": _access("Put Query"),
    "jobs": _access("BatchGet Get Put Update", indexes="by_agent by_day by_open by_outcome"),
    "oauth-states": _access("Delete Put"),
    "pipelines": _access("Delete Get Put Query Update"),
    "queue": _access("Delete Put Query Update"),
    "sessions": _access("BatchGet Delete Get Put Update", indexes="by_user"),
    "summary": _access("Query Update"),
    "users": _access("BatchGet Get Put Update", indexes="by_email by_name"),
}
