"""The rule that an active admin remains, whatever is changed at once."""

from collections.abc import Callable, Iterator

from apps.accounts.models import User
from apps.accounts.policies import account_manager_roles
from apps.accounts.selectors import users_active
from controlplane.lib.actor import Actor
from controlplane.lib.error_codes import ErrorCode
from controlplane.lib.errors import Conflict
from controlplane.nosql.transaction import Transaction, TransactionFailed

_REMAINING = "remaining"


def admin_remaining_commit(build: Callable[[], Transaction], *, leaving: User, actor: Actor) -> None:
    """Commit a change after which `leaving`, as they were read, manages no accounts: `build` makes its transaction.

    The transaction checks that one other user is an active admin. So of two admins who demote each other, the second
    one's check fails. The actor is the first choice for this other user.

    Raises Conflict ``last_admin`` if there is no other active admin, and TransactionFailed for the change's own
    conditions, which must include that `leaving` is as they were read.
    """
    if not (leaving.is_active and leaving.role in account_manager_roles()):
        build().commit()
        return
    for user_id in _others(leaving, actor):
        tx = build()
        tx.check(_REMAINING, User(user_id), User.is_one_of(account_manager_roles()))
        try:
            tx.commit()
        except TransactionFailed as error:
            if set(error.failed) != {_REMAINING}:
                raise
        else:
            return
    raise Conflict(
        f"{leaving.name} is the last active admin. Make another user an admin first.", code=ErrorCode.LAST_ADMIN
    )


def _others(leaving: User, actor: Actor) -> Iterator[str]:
    """The ids of users who may be active admins. The index is only asked if the actor is none."""
    if actor.person_id is not None and actor.person_id != leaving.user_id:
        yield actor.person_id
    for user in users_active(account_manager_roles()):
        if user.user_id not in (leaving.user_id, actor.person_id):
            yield user.user_id
