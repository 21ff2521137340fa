"""Showing checks at commits: only what differs from what was sent last, each once.

Before each call to a provider its record says what is being sent, and after it that this was sent. A process that ends
in between leaves the first note, so that the next one asks the provider what it has.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.sources.models import Connection, SentCheck
from apps.sources.providers.calls import ProviderRefused
from apps.sources.providers.interface import Annotation, Check, provider_has, provider_of
from apps.sources.providers.statuses import STATUS_ID, check_state
from apps.sources.selectors.checks import checks_place
from controlplane.lib import clock
from controlplane.lib.errors import RetryLater, Unprocessable
from controlplane.nosql.connection import ConditionFailed

__all__ = ["Annotation", "Check", "check_show", "checks_are_shown"]

logger = logging.getLogger(__name__)

# By then the results of the commit are history.
_KEPT = timedelta(days=90)
# Statuses that come from the request itself: the same would be refused again. Others have a cause that users can
# remove, such as a token that has expired.
_FOR_GOOD = frozenset({400, 409, 410, 413, 422})
_PAUSE_SECONDS = 900
# Another process, which may have died, has a key of the outbox for a minute.
_OTHERS_SECONDS = 60
_PROBLEM_CHARACTERS = 300
_COMPLETED = "completed"


def checks_are_shown(connection: Connection) -> bool:
    """Whether commits of the connection's repositories can show checks."""
    return provider_has(str(connection.provider), "check_send")


def check_show(connection: Connection, check: Check, *, run_id: str, turn: int, known: Mapping[str, SentCheck]) -> None:
    """Show the check at its commit, if it was not sent in this state yet.

    `known` are the checks of the commit as `checks_sent` has read them. `turn` counts how often the check has begun:
    one of a new turn is shown as a new one. A check that a newer one of the same name has taken the place of is only
    ended, and not shown any more.

    Raises Unavailable; and RetryLater if the provider limits the rate, refuses for a cause that users can remove, or if
    another process sends the check at this moment.
    """
    sent = known.get(check.external_id) or _new(connection, check, run_id)
    state = f"{check_state(check)}{check.phase}"
    if sent.shows(state, turn) or _is_superseded(check, sent, known):
        return
    is_new = bool(sent.has_ended) and sent.turn != turn
    check = replace(check, provider_id=sent.provider_id, is_new=is_new, maybe_sent=bool(sent.sending))
    _note(sent, [SentCheck.name.set(check.name), SentCheck.run_id.set(run_id), SentCheck.sending.set(True)])
    provider_id, problem = check.provider_id, None
    try:
        provider_id = provider_of(str(connection.provider)).check_send(connection, check)
    except Unprocessable as error:
        problem = error.message[:_PROBLEM_CHARACTERS]
        if not isinstance(error, ProviderRefused) or error.http_status not in _FOR_GOOD:
            _note(sent, [SentCheck.problem.set(problem)])
            raise RetryLater(error.message, seconds=_PAUSE_SECONDS) from error
        logger.warning("The check %s of %s is not shown: %s", check.name, check.repository, error.message)
    _note(
        sent,
        [
            SentCheck.state.set(state),
            SentCheck.turn.set(turn),
            SentCheck.has_ended.set(check.status == _COMPLETED),
            SentCheck.sending.remove(),
            SentCheck.provider_id.set(provider_id) if provider_id else SentCheck.provider_id.remove(),
            SentCheck.problem.set(problem) if problem else SentCheck.problem.remove(),
        ],
    )


def _new(connection: Connection, check: Check, run_id: str) -> SentCheck:
    place = checks_place(str(connection.connection_id), check.repository, check.commit)
    return SentCheck(place, check.external_id, name=check.name, run_id=run_id, revision=0)


def _is_superseded(check: Check, sent: SentCheck, known: Mapping[str, SentCheck]) -> bool:
    """Whether a newer check of the name is shown. Ids sort by the time of their creation.

    A check run of its own is brought to its end nevertheless. A commit has one status of each name.
    """
    is_newest = all(other.name != check.name or other.external_id <= check.external_id for other in known.values())
    return not is_newest and sent.provider_id in (None, STATUS_ID)


def _note(sent: SentCheck, changes: list[Any]) -> None:
    """Write the record, unless another process has. Raises RetryLater then."""
    revision = int(sent.revision)
    unchanged = SentCheck.revision == revision if revision else SentCheck.revision.does_not_exist()
    actions = [*changes, SentCheck.revision.set(revision + 1), SentCheck.expires_at.set(clock.now() + _KEPT)]
    try:
        sent.update(actions=actions, condition=unchanged)
    except ConditionFailed:
        raise RetryLater("Another process sends this check at this moment.", seconds=_OTHERS_SECONDS) from None
