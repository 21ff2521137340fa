"""Noting that the checks of a commit may have to change, in the transaction of the act that changes them.

`checks` sends them later. It looks at the whole run then, so that the note says no more than which run it is.
"""

from apps.notifications.services import outbox_add
from apps.notifications.states import Topic
from controlplane.nosql.transaction import Transaction

# Of its row in the transaction.
_LABEL = "checks"


def checks_changed_add(transaction: Transaction, *, key: str, run_id: str) -> None:
    """Note it once in the transaction, also if that changes several jobs of the run. `key` is `Run.checks_key`."""
    if not transaction.has(_LABEL):
        outbox_add(transaction, topic=Topic.CHECKS, key=key, fact={"run_id": run_id}, label=_LABEL)
